// curl on the other end of the HTTP side, and a raw socket for what curl does not do: node http.mjs CURL CHAT REST_AND_EVENTS
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { connect } from "node:net";
import { start, within } from "../support/program.mjs";

const [curl, chatBinary, restBinary] = process.argv.slice(2);
const page = readFileSync(new URL("../../examples/chat/public/index.html", import.meta.url));

const running = new Set();
process.on("exit", () => running.forEach((child) => child.kill("SIGKILL")));

/** What curl prints, and what it says of the connection. */
function run(args, input = "") {
    // It would not wait for 100 Continue longer than a second, and who has the body says it no more.
    const child = spawn(curl, ["--silent", "--verbose", "--max-time", "20", "--expect100-timeout", "20", "--noproxy", "*", ...args]);
    running.add(child);
    const [out, said] = [[], []];
    child.stdout.on("data", (data) => out.push(data));
    child.stderr.on("data", (data) => said.push(data));
    child.stdin.on("error", () => {});
    child.stdin.end(input);
    return within(25_000, `curl ${args.join(" ")}`, new Promise((resolve, reject) => {
        child.on("error", reject);
        child.on("close", (code) => running.delete(child) && resolve({ code, out: Buffer.concat(out), said: String(Buffer.concat(said)) }));
    }));
}

/** Everything that a server sends to these bytes until it ends the connection. */
const raw = (port, bytes) => within(10_000, "the raw socket", new Promise((resolve, reject) => {
    const socket = connect(port, "localhost");
    let text = "";
    socket.on("data", (data) => { text += data; });
    socket.on("error", reject);
    socket.on("close", () => resolve(text));
    socket.write(bytes);
}));

const checks = {
    async "a page comes whole, and HEAD says how long it is"({ chat }) {
        const { code, out, said } = await run([`${chat}/`]);
        assert.equal(code, 0);
        assert.deepEqual(out, page);
        assert.match(said, /< HTTP\/1\.1 200 OK\r\n/);
        assert.match(said, /left intact/);
        const head = await run(["--head", `${chat}/`]);
        assert.match(String(head.out), new RegExp(`^HTTP/1\\.1 200 OK\r\n[^]*Content-Length: ${page.length}\r\n`));
    },

    async "ranges are the same bytes as the file has"({ chat }) {
        for (const [range, part] of [["0-0", page.subarray(0, 1)], ["100-1099", page.subarray(100, 1100)],
            ["1000-", page.subarray(1000)], ["-777", page.subarray(-777)], [`5-${page.length * 2}`, page.subarray(5)]]) {
            const { out, said } = await run(["--range", range, `${chat}/index.html`]);
            assert.match(said, /< HTTP\/1\.1 206 Partial Content\r\n/, range);
            assert.deepEqual(out, part, range);
        }
        assert.match((await run(["--range", `${page.length}-`, `${chat}/index.html`])).said, /< HTTP\/1\.1 416 /);
    },

    async "a download that was cut goes on where it ended"({ chat }) {
        const { out } = await run(["--continue-at", "1234", `${chat}/index.html`]);
        assert.deepEqual(out, page.subarray(1234));
    },

    async "one connection serves many requests"({ chat }) {
        const { said } = await run([`${chat}/`, `${chat}/nothing`, `${chat}/arke.js`, `${chat}/`]);
        assert.equal(said.match(/Re-using existing connection/g).length, 3);
        assert.equal(said.match(/Connected to/g).length, 1);
    },

    async "HTTP/1.0 has its answer and the end"({ chat }) {
        const { code, out, said } = await run(["--http1.0", `${chat}/`]);
        assert.equal(code, 0);
        assert.deepEqual(out, page);
        assert.match(said, /Closing connection/);
    },

    async "what is known already is not sent again"({ chat }) {
        const [, tag] = /ETag: (.*)\r\n/i.exec((await run(["--head", `${chat}/`])).out);
        const { out, said } = await run(["--header", `If-None-Match: ${tag}`, `${chat}/`]);
        assert.match(said, /< HTTP\/1\.1 304 Not Modified\r\n/);
        assert.equal(out.length, 0);
        const modified = await run(["--time-cond", "2001-01-01", `${chat}/`]);
        assert.deepEqual(modified.out, page);
    },

    async "paths that lead out of the folder are nowhere"({ chat }) {
        for (const path of ["/../chat.cpp", "/%2e%2e/chat.cpp", "/..%2fchat.cpp", "//etc/passwd", "/%00"]) {
            assert.match((await run(["--path-as-is", `${chat}${path}`])).said, /< HTTP\/1\.1 404 Not Found\r\n/, path);
        }
    },

    async "a body is awaited by 100 Continue, by its length and in chunks"({ rest }) {
        const body = JSON.stringify({ name: "x".repeat(3000) });
        const login = ["--header", "Expect: 100-continue", `${rest}/api/login`];
        const byLength = await run(["--data-binary", "@-", ...login], body);
        assert.match(byLength.said, /< HTTP\/1\.1 100 Continue\r\n[^]*< HTTP\/1\.1 204 No Content\r\n/);
        const inChunks = await run(["--request", "POST", "--upload-file", "-", ...login], body);
        assert.match(inChunks.said, /> Transfer-Encoding: chunked\r\n[^]*< HTTP\/1\.1 204 No Content\r\n/);
        const tooLarge = await run(["--data-binary", "@-", ...login], "x".repeat(100_000));
        assert.match(tooLarge.said, /< HTTP\/1\.1 413 Content Too Large\r\n/);
        assert.doesNotMatch(tooLarge.said, /100 Continue/);
    },

    async "a cookie that curl keeps signs it in"({ rest }) {
        const { out, said } = await run(["--cookie", "", "--json", '{"name":"ada"}', `${rest}/api/login`, "--next",
            "--silent", "--cookie", "", "--json", '{"text":"hello"}', `${rest}/api/notes`]);
        assert.deepEqual(JSON.parse(out), { by: "ada", text: "hello" });
        assert.match(said, /< HTTP\/1\.1 201 Created\r\n/);
    },

    async "pipelined requests are answered in their order"({ ports }) {
        const one = (line, more = "") => `${line} HTTP/1.1\r\nHost: localhost\r\n${more}\r\n`;
        const text = await raw(ports.rest, one("GET /api/notes") + one("POST /api/login", "Content-Length: 12\r\n") +
            '{"name":"b"}' + one("HEAD /") + one("DELETE /api/notes") + one("GET /nothing", "Connection: close\r\n") +
            one("GET /api/notes"));
        assert.deepEqual([...text.matchAll(/HTTP\/1\.1 (\d+)/g)].map((match) => match[1]), ["200", "204", "200", "405", "404"]);
    },
};

const chat = await start(chatBinary, "0");
const rest = await start(restBinary, "0");
const ports = { chat: chat.ports[0], rest: rest.ports[0] };
const urls = { chat: `http://localhost:${ports.chat}`, rest: `http://localhost:${ports.rest}`, ports };
for (const [name, check] of Object.entries(checks)) {
    await check(urls);
    console.log(`passed: ${name}`);
}
await chat.stop();
await rest.stop();
process.exit(0);
