// Drives one example from outside, as its first user would: node drive.mjs NAME BINARY [BROKER...]
import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { freePort } from "../support/free_port.mjs";
import { Client, start, within } from "../support/program.mjs";

const { WebSocketServer } = createRequire(new URL("../peers/package.json", import.meta.url))("ws");

const drives = {
    async hello([port]) {
        const url = `ws://localhost:${port}/my_endpoint`;
        const [ada, bob] = [await Client.open(url), await Client.open(url)];
        ada.emit("chat", 0, "hello; all");
        assert.match(await ada.event("chat"), /^From: \w{15}: hello; all$/);
        assert.match(await bob.event("chat"), /^From: \w{15}: hello; all$/);
    },

    async echo([port]) {
        const client = await Client.open(`ws://localhost:${port}/`);
        client.send("text");
        assert.equal(await client.next(), "text");
        client.send(Buffer.from([0, 255, 7]));
        assert.deepEqual(await client.next(), Buffer.from([0, 255, 7]));
        client.send("x".repeat(1024 * 1024));
        assert.equal((await client.next()).length, 1024 * 1024);
        client.send("x".repeat(1024 * 1024 + 1));
        assert.equal((await within(10_000, "the close", client.closed)).code, 1009);
    },

    async typed_events([port]) {
        const client = await Client.open(`ws://localhost:${port}/`);
        client.emit("buy", 4, '{"item":"tea","count":6}');
        assert.deepEqual(JSON.parse(await client.event("receipt")), { item: "tea", total: 42 });
        client.emit("spent", 0, "");
        assert.equal(await client.event("spent"), "42");
        client.emit("add", 4, "[1,2,3]");
        assert.equal(await client.event("sum"), "6");
        // It overflowed.
        client.emit("add", 4, "[2147483647,1]");
        assert.equal(await client.event("sum"), "2147483648");
        client.emit("buy", 0, "six cups of tea");
        assert.notEqual(await client.event("problem"), "");
        client.emit("nobody_listens", 0, "");
        assert.notEqual(await client.event("problem"), "");
        client.emit("enough", 1, "true");
        assert.deepEqual(await within(10_000, "the close", client.closed), { code: 1000, reason: "as you wish" });
    },

    async native_messages([port]) {
        const url = `ws://localhost:${port}/`;
        const [painter, viewer] = [await Client.open(url), await Client.open(url)];
        painter.send("sunset.png");
        assert.equal(await viewer.next(), "sunset.png");
        assert.equal(await painter.next(), "took 10 bytes of text");
        painter.send(Buffer.alloc(100_000, 200));
        assert.deepEqual(await viewer.next(), Buffer.alloc(100_000, 200));
        assert.equal(await painter.next(), "took 100000 bytes of binary");
    },

    // In a browser too: tests/browser/tls_chat.mjs.
    async tls_chat([port], certificate) {
        const ca = readFileSync(certificate);
        const visit = async (name, options = { ca }) => {
            const visitor = new Client(`wss://localhost:${port}/my_endpoint`, undefined, options);
            await within(10_000, "connecting", visitor.opened);
            visitor.emit("hello", 0, name);
            return visitor;
        };
        const ann = await visit("Ann");
        assert.equal(JSON.parse(await ann.event("welcome")).name, "Ann");
        await assert.rejects(visit("Eve", {}), { code: "DEPTH_ZERO_SELF_SIGNED_CERT" });
    },

    async several_servers([port, adminPort]) {
        const reader = await Client.open(`ws://localhost:${port}/news`);
        const trader = await Client.open(`ws://localhost:${port}/ticker`);
        const admin = await Client.open(`ws://localhost:${adminPort}/admin`);
        admin.emit("publish", 0, "rain at last");
        assert.equal(await admin.event("published"), "1");
        assert.equal(await reader.event("headline"), "rain at last");
        trader.emit("price", 1, "1.5");
        assert.equal(await trader.event("price"), "1.5");
        admin.emit("publish", 0, "and sun");
        assert.equal(await reader.event("headline"), "and sun");
        await assert.rejects(Client.open(`ws://localhost:${adminPort}/news`), /404/);
    },

    async tested_ticker([port]) {
        const url = `ws://localhost:${port}/`;
        const [watcher, market] = [await Client.open(url), await Client.open(url)];
        watcher.emit("watch", 0, "tea");
        market.emit("watch", 0, "gin");
        // Its own answer shows that the market's first word was heard; the watcher's may still be on its way.
        market.emit("price", 4, '{"symbol":"gin","price":20}');
        assert.deepEqual(JSON.parse(await market.event("price")), { symbol: "gin", price: 20 });
        watcher.emit("price", 4, '{"symbol":"tea","price":4.5}');
        assert.deepEqual(JSON.parse(await watcher.event("price")), { symbol: "tea", price: 4.5 });
    },

    async embedded([port]) {
        const client = await Client.open(`ws://localhost:${port}/`);
        client.emit("echo", 0, "hello");
        const heard = new Set();
        while (heard.size < 2) heard.add(/:(\w+);/.exec(await client.next())[1]);
        assert.deepEqual([...heard].sort(), ["echo", "tick"]);
    },

    async requests([port]) {
        const client = await Client.open(`ws://localhost:${port}/`, ["arke.v1"]);
        client.send("rj1 add\n[2,3]");
        assert.equal(await client.next(), "an1 5");
        client.send("rs2 price\ngin");
        assert.equal(await client.next(), "f2 refused\nthere is no gin");
        client.send('rj3 buy\n{"item":"tea","count":6}');
        const question = /^rs(\d+) sure\n42 for tea$/.exec(await client.next());
        client.send(`ab${question[1]} true`);
        assert.equal(await client.next(), "as3 here you are");
    },

    async beside_beast([port]) {
        const page = await fetch(`http://localhost:${port}/`);
        assert.match(await page.text(), /A page of Beast's/);
        assert.equal((await fetch(`http://localhost:${port}/missing`)).status, 404);
        const [ada, bob] = [await Client.open(`ws://localhost:${port}/events`), await Client.open(`ws://localhost:${port}/events`)];
        ada.emit("hello", 0, "Ada");
        assert.equal(await ada.event("welcome"), "Ada from 127.0.0.1");
        bob.emit("hello", 0, "Bob");
        assert.equal(await ada.event("welcome"), "Bob from 127.0.0.1");
        await assert.rejects(Client.open(`ws://localhost:${port}/other`), /404/);
    },

    async rest_and_events([port]) {
        const at = (path) => `http://localhost:${port}${path}`;
        const post = (path, body, headers = {}) => fetch(at(path), { method: "POST", body: JSON.stringify(body), headers });
        assert.match(await (await fetch(at("/"))).text(), /arke\.js/);
        assert.deepEqual(await (await fetch(at("/api/notes"))).json(), []);
        assert.equal((await post("/api/notes", { text: "a" })).status, 401);
        assert.equal((await post("/api/login", { nick: "ada" })).status, 400);
        assert.equal((await post("/api/login", { name: "x".repeat(5000) })).status, 413);
        assert.equal((await fetch(at("/api/login"))).headers.get("allow"), "POST, OPTIONS");
        await assert.rejects(Client.open(`ws://localhost:${port}/events`), /401/);

        const login = await post("/api/login", { name: "ada" });
        assert.equal(login.status, 204);
        const [cookie] = login.headers.get("set-cookie").split(";");
        const ada = new Client(`ws://localhost:${port}/events`, [], { headers: { Cookie: cookie } });
        await within(10_000, "the connection", ada.opened);
        assert.equal(await ada.event("welcome"), "ada");
        const posted = await post("/api/notes", { text: "hello" }, { Cookie: cookie });
        assert.equal(posted.status, 201);
        assert.deepEqual(JSON.parse(await ada.event("note")), { by: "ada", text: "hello" });
        assert.deepEqual(await (await fetch(at("/api/notes"))).json(), [{ by: "ada", text: "hello" }]);

        // Everybody who had ever signed in was kept, and so was every note.
        for (let i = 0; i !== 100; ++i) await post("/api/notes", { text: `${i}` }, { Cookie: cookie });
        const notes = await (await fetch(at("/api/notes"))).json();
        assert.deepEqual([notes.length, notes[0].text, notes[99].text], [100, "0", "99"]);
        const sign_in = (_, i) => post("/api/login", { name: `${i}` });
        for (let i = 0; i !== 20; ++i) await Promise.all(Array.from({ length: 50 }, sign_in));
        assert.equal((await post("/api/notes", { text: "late" }, { Cookie: cookie })).status, 401);
    },

    // The pages of the chat are driven in a browser; here only what they are made of.
    async chat([port]) {
        for (const [path, type] of [["/", "text/html"], ["/arke.js", "text/javascript"], ["/iris-ws.js", "text/javascript"]]) {
            const answer = await fetch(`http://localhost:${port}${path}`);
            assert.equal(answer.status, 200, path);
            assert.match(answer.headers.get("content-type"), new RegExp(type));
            assert.equal((await fetch(`http://localhost:${port}${path}`, {
                headers: { "If-None-Match": answer.headers.get("etag") },
            })).status, 304, path);
        }
        const client = await Client.open(`ws://localhost:${port}/my_endpoint`);
        assert.equal((await client.end()).code, 1005);
    },
};

/** Those that are no servers, or more than one. */
const others = {
    // In a browser too: tests/browser/cluster_chat.mjs.
    async cluster_chat(binary, ...brokers) {
        const script = fileURLToPath(new URL("../../examples/cluster_chat/start", import.meta.url));
        const children = (pid) => readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").trim().split(" ").map(Number);
        const isThere = (pid) => {
            try {
                return !/^State:\s*Z/m.test(readFileSync(`/proc/${pid}/status`, "utf8"));
            } catch {
                return false; // it may go while it is looked at
            }
        };
        process.env.TMPDIR = mkdtempSync(join(tmpdir(), "arke-cluster-chat-"));
        process.on("exit", () => rmSync(process.env.TMPDIR, { recursive: true, force: true }));
        for (const kind of brokers) {
            const both = await start(script, binary, kind, "0");
            const heard = async (visitor, event, data) => {
                for (;;) {
                    const [, name, text] = /^iris-websocket-message:([^;]*);\d;([^]*)$/.exec(await visitor.next());
                    if (name === event && Object.entries(data).every(([key, value]) => JSON.parse(text)[key] === value)) return;
                }
            };
            // Who is in the lobby sees the others join it.
            const visit = async (port, name) => {
                const visitor = await Client.open(`ws://localhost:${port}/my_endpoint`);
                visitor.emit("hello", 0, name);
                await heard(visitor, "entered", { room: "Lobby" });
                return visitor;
            };
            const [ann, ben] = [await visit(both.ports[0], "Ann"), await visit(both.ports[1], "Ben")];
            await heard(ann, "joined", { name: "Ben" });
            ben.emit("say", 4, '{"room":"Lobby","text":"hello over there"}');
            await heard(ann, "message", { name: "Ben", text: "hello over there" });

            // Nothing stays behind, whether it is told to end or killed.
            const started = children(both.pid);
            assert.equal(started.length, 3);
            await both.stop();
            assert.deepEqual(started.filter(isThere), []);
        }
        const killed = await start(script, binary, brokers[0], "0");
        const orphans = children(killed.pid);
        process.kill(killed.pid, "SIGKILL");
        await within(20_000, "the end of all", (async () => {
            while (orphans.some(isThere)) await new Promise((resolve) => setTimeout(resolve, 20));
        })());
    },

    async cat(binary) {
        const server = new WebSocketServer({
            host: "127.0.0.1",
            port: 0,
            handleProtocols: (offered) => (offered.has("arke.v1") ? "arke.v1" : false),
        });
        await new Promise((resolve) => server.on("listening", resolve));
        const heard = [];
        let headers;
        server.on("connection", (socket, request) => {
            headers = request.headers;
            socket.on("message", (data, isBinary) => {
                const text = String(data);
                heard.push((isBinary ? "binary " : "") + text);
                const [, id, question] = /^r.(\d+) \w+\n([^]*)$/.exec(text) ?? [];
                if (id) return socket.send(question === "moon" ? `f${id} refused\nsold out` : `as${id} ${question}!`);
                if (text.startsWith("m")) socket.send(data, { binary: isBinary });
                socket.send("esecho\n" + text);
            });
        });
        const running = new Set();
        process.on("exit", () => running.forEach((child) => child.kill("SIGKILL")));
        const run = (input, ...args) => new Promise((resolve, reject) => {
            const child = spawn(binary, args, { stdio: ["pipe", "pipe", "pipe"] });
            running.add(child);
            let [out, err] = ["", ""];
            child.stdout.on("data", (data) => { out += data; });
            child.stderr.on("data", (data) => { err += data; });
            child.on("error", reject);
            child.on("close", (code) => running.delete(child) && resolve({ code, out, err }));
            child.stdin.on("error", () => {});
            child.stdin.end(input);
        });
        const url = `ws://localhost:${server.address().port}/`;

        assert.deepEqual(await run("hello\nwörld\n", url, "--header", "X-Test: 1"),
            { code: 0, out: "hello\necho mhello\nwörld\necho mwörld\n", err: "" });
        assert.equal(headers["x-test"], "1");
        assert.deepEqual(await run("hello\n", url, "--event", "chat"), { code: 0, out: "echo eschat\nhello\n", err: "" });
        assert.deepEqual(await run("[1,2]\n", url, "--event", "chat", "--json"), { code: 0, out: "echo ejchat\n[1,2]\n", err: "" });
        assert.deepEqual(await run("tea\ngin\n", url, "--ask", "wish"), { code: 0, out: "tea!\ngin!\n", err: "" });
        assert.deepEqual(await run("moon\n", url, "--ask", "wish"), { code: 1, out: "", err: "cat: refused: sold out\n" });
        heard.length = 0;
        await run("data\n", url, "--binary");
        assert.deepEqual(heard, ["binary mdata"]);
        const lines = Array.from({ length: 20_000 }, (_, i) => `line ${i}`);
        heard.length = 0;
        assert.equal((await run(lines.join("\n"), url, "--event", "many")).code, 0);
        assert.deepEqual(heard, lines.map((line) => `esmany\n${line}`));

        server.close();
        server.clients.forEach((socket) => socket.terminate());
        // At the port that is free again somebody else may listen by now.
        const refused = await run("hello\n", `ws://localhost:${await freePort()}/`);
        assert.equal(refused.code, 1);
        assert.match(refused.err, /^cat: cannot connect to localhost:\d+: Connection refused/);
        assert.match((await run("", "localhost:80")).err, /^cat: arke::client: "localhost:80" is no WebSocket URL/);
        assert.equal((await run("", url, "--nonsense")).code, 1);
    },
};

const [name, binary, ...more] = process.argv.slice(2);
if (others[name]) {
    await within(100_000, name, others[name](binary, ...more));
    console.log(`${name}: passed`);
    process.exit(0);
}
/** What an example is started with besides its port: here the certificate that its script makes. */
const files = {
    tls_chat() {
        const folder = mkdtempSync(join(tmpdir(), "arke-tls-chat-"));
        process.on("exit", () => rmSync(folder, { recursive: true, force: true }));
        execFileSync(fileURLToPath(new URL("../../examples/tls_chat/certificate", import.meta.url)), [folder]);
        return [join(folder, "certificate.pem"), join(folder, "key.pem")];
    },
};

assert.ok(drives[name], `drive.mjs does not know the example ${name}: say here what it does`);
const made = files[name]?.() ?? [];
const program = await start(binary, "0", ...made);
await within(100_000, name, drives[name](program.ports, ...made));
await program.stop();
console.log(`${name}: passed`);
process.exit(0);
