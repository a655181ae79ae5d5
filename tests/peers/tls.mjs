// TLS with openssl's s_client, curl and npm's ws on the other end: node tls.mjs TLS_SERVER
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { WebSocket, start, within } from "../support/program.mjs";

const [binary] = process.argv.slice(2);
const folder = mkdtempSync(join(tmpdir(), "arke-tls-"));
process.on("exit", () => rmSync(folder, { recursive: true, force: true }));
const at = (name) => join(folder, name);

/** Runs a program to its end, whatever that is. */
function run(program, args, input = "") {
    return new Promise((resolve, reject) => {
        const child = execFile(program, args, { cwd: folder, timeout: 20_000 }, (error, out, err) => {
            if (error?.code === "ENOENT") return reject(new Error(`${program} is not installed`));
            resolve({ code: error?.code ?? 0, text: out + err, out });
        });
        child.stdin.on("error", () => {});
        child.stdin.end(input);
    });
}

async function openssl(...args) {
    const done = await run("openssl", args);
    assert.equal(done.code, 0, `openssl ${args.join(" ")}: ${done.text}`);
}

async function certificate(name, subject, names, authority) {
    const own = ["req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", `/CN=${subject}`,
        "-keyout", `${name}.key`];
    if (!authority) return openssl(...own, "-x509", "-days", "2", "-out", `${name}.pem`);
    await openssl(...own, "-out", `${name}.csr`);
    writeFileSync(at("names"), names ? `subjectAltName=${names}\n` : "basicConstraints=CA:FALSE\n");
    return openssl("x509", "-req", "-in", `${name}.csr`, "-CA", `${authority}.pem`, "-CAkey", `${authority}.key`,
        "-CAcreateserial", "-days", "2", "-extfile", "names", "-out", `${name}.pem`);
}

const client = (port, ...args) => run("openssl", ["s_client", "-connect", `localhost:${port}`, "-CAfile", "ca.pem", ...args]);

/** An open WebSocket, with its messages one by one. */
async function open(port, options = {}) {
    const socket = new WebSocket(`wss://localhost:${port}/`, { ca: readFileSync(at("ca.pem")), ...options });
    await within(20_000, "connecting", new Promise((resolve, reject) => socket.on("open", resolve).on("error", reject)));
    return {
        socket,
        /** What the answer to this is. */
        ask(text) {
            const answer = new Promise((resolve) => socket.once("message", (data, isBinary) => resolve(isBinary ? data : String(data))));
            socket.send(text);
            return within(20_000, "an answer", answer);
        },
        subject: () => socket._socket.getPeerCertificate().subject.CN,
    };
}

const refusal = (port, options) => open(port, options).then(() => "connected", (error) => error.code ?? error.message);

/** A hello of an old version, byte for byte, and what comes back. */
function oldHello(port, minor) {
    const body = Buffer.concat([Buffer.from([3, minor]), Buffer.alloc(32, 7), Buffer.from([0, 0, 4, 0, 0x2f, 0xc0, 0x13, 1, 0])]);
    const shake = Buffer.concat([Buffer.from([1, 0, 0, body.length]), body]);
    const hello = Buffer.concat([Buffer.from([0x16, 3, minor, 0, shake.length]), shake]);
    return within(10_000, "the alert", new Promise((resolve, reject) => {
        const chunks = [];
        const socket = connect(port, "localhost", () => socket.write(hello));
        socket.on("data", (data) => chunks.push(data)).on("error", reject).on("end", () => resolve(Buffer.concat(chunks)));
    }));
}

const checks = {
    async "what is older than TLS 1.2 is refused, SSL 3 included"(port) {
        for (const minor of [0, 1, 2]) {
            const answer = await oldHello(port, minor);
            assert.equal(answer[0], 0x15, "an alert");
            assert.equal(answer[5], 2, "a fatal one");
            assert.ok([40, 70].includes(answer[6]), `handshake_failure or protocol_version, and not ${answer[6]}`);
        }
        for (const version of ["-tls1", "-tls1_1"]) {
            const { text } = await client(port, version, "-cipher", "ALL:@SECLEVEL=0");
            assert.match(text, /alert protocol version|no protocols available/);
        }
        for (const [version, name] of [["-tls1_2", "TLSv1.2"], ["-tls1_3", "TLSv1.3"]]) {
            const { text } = await client(port, version, "-verify_return_error");
            assert.match(text, new RegExp(`New, ${name}, Cipher is`));
            assert.match(text, /Verify return code: 0 \(ok\)/);
        }
    },

    async "no weak ciphers, no compression, no renegotiation"(port) {
        for (const cipher of ["AES128-SHA", "AES256-GCM-SHA384", "ECDHE-ECDSA-AES128-SHA", "NULL", "aNULL"]) {
            const { text } = await client(port, "-tls1_2", "-cipher", `${cipher}:@SECLEVEL=0`);
            assert.match(text, /handshake failure|no cipher match|no ciphers available/, cipher);
        }
        const { text } = await run("openssl", ["s_client", "-connect", `localhost:${port}`, "-CAfile", "ca.pem", "-tls1_2"], "R\n");
        assert.match(text, /Compression: NONE/);
        assert.match(text, /no renegotiation/i);
    },

    async "the name chooses the certificate"(port) {
        for (const [name, subject] of [["localhost", "first"], ["second.example", "second"], ["third.example", "first"]]) {
            const { text } = await client(port, "-servername", name);
            assert.match(text, new RegExp(`subject=CN = ${subject}\n`), name);
        }
    },

    async "ALPN"(port) {
        assert.match((await client(port, "-alpn", "h2,http/1.1")).text, /ALPN protocol: http\/1\.1/);
        assert.match((await client(port, "-alpn", "h2")).text, /alert no application protocol/);
    },

    async "sessions are resumed"(port) {
        const { text } = await client(port, "-tls1_2", "-reconnect");
        assert.equal(text.match(/Reused, TLSv1.2/g)?.length, 5);
        // Of 1.3 the ticket comes behind the handshake: with the answer.
        const request = "GET /arke.js HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        const args = (...more) => ["s_client", "-connect", `localhost:${port}`, "-CAfile", "ca.pem", "-tls1_3", "-ign_eof", ...more];
        await run("openssl", args("-sess_out", "session"), request);
        assert.match((await run("openssl", args("-sess_in", "session"), request)).text, /Reused, TLSv1.3/);
    },

    async "https by curl, and http that lost its way"(port, plain) {
        const curl = (...args) => run("curl", ["-sS", "--cacert", "ca.pem", ...args]);
        const script = await curl(`https://localhost:${port}/arke.js`, `https://localhost:${port}/arke.js`, "-w", "%{num_connects}\n");
        assert.equal(script.code, 0, script.text);
        assert.match(script.out, /\n1\n[^]*\n0\n$/, "the second comes on the same connection");
        assert.equal((await run("curl", ["-sS", `https://localhost:${port}/arke.js`])).code, 60, "who does not know the authority");
        assert.equal((await curl("--tls-max", "1.1", `https://localhost:${port}/arke.js`)).code, 35);
        assert.match((await curl(`http://localhost:${port}/`)).out, /^This port speaks TLS/);
        assert.equal((await curl(`https://localhost:${plain}/`)).code, 35);
        assert.equal((await curl("-o", "plain", "-w", "%{http_code}", `http://localhost:${plain}/arke.js`)).out, "200");
    },

    async "npm's ws, which verifies"(port) {
        const c = await open(port);
        assert.equal(await c.ask("hello"), "hello");
        for (const size of [1, 16_383, 16_384, 16_385, 100_000, 4_000_000])
            assert.deepEqual(await c.ask(Buffer.alloc(size, size % 251)), Buffer.alloc(size, size % 251));
        assert.equal(await c.ask("who"), "TLSv1.3 localhost full nobody");
        c.socket.close();
        assert.equal(await refusal(port, { ca: undefined }), "UNABLE_TO_VERIFY_LEAF_SIGNATURE");
        assert.equal(await refusal(port, { servername: "second.example" }), "connected");
        assert.equal(await refusal(port, { servername: "third.example" }), "ERR_TLS_CERT_ALTNAME_INVALID");
    },

    async "certificates are read again under 500 open connections, and none is lost"(port) {
        const admin = await open(port);
        const all = [];
        // Not so many at once that their handshakes together take longer than the server gives to each.
        while (all.length < 500) all.push(...await Promise.all(Array.from({ length: 10 }, () => open(port))));
        let lost = 0;
        for (const c of all) c.socket.on("close", () => ++lost);
        const everybody = async (text) => assert.deepEqual(await Promise.all(all.map((c) => c.ask(text))), all.map(() => text));
        await everybody("before");
        await certificate("renewed", "renewed", "DNS:localhost", "ca");
        for (const end of ["pem", "key"]) copyFileSync(at(`renewed.${end}`), at(`first.${end}`));
        // While somebody is in the midst of a handshake, and all others speak.
        const [, answer, late] = await Promise.all([everybody("meanwhile"), admin.ask("reload"), open(port)]);
        assert.equal(answer, "reloaded");
        await everybody("after");
        assert.equal(await late.ask("late"), "late");
        assert.equal(all[0].subject(), "first");
        assert.equal((await open(port)).subject(), "renewed");
        writeFileSync(at("first.pem"), "nonsense");
        assert.match(await admin.ask("reload"), /holds no certificate/);
        assert.equal((await open(port)).subject(), "renewed");
        await everybody("at the end");
        assert.equal(lost, 0);
        copyFileSync(at("renewed.pem"), at("first.pem"));
    },
};

await certificate("ca", "test CA");
await certificate("first", "first", "DNS:localhost,IP:127.0.0.1", "ca");
await certificate("second", "second", "DNS:second.example", "ca");
await certificate("ada", "ada", "", "ca");
await certificate("stranger", "another CA");
await certificate("eve", "eve", "", "stranger");

const server = await start(binary, "0", folder);
for (const [sentence, check] of Object.entries(checks)) {
    await within(120_000, sentence, check(...server.ports));
    console.log(`passed: ${sentence}`);
}
await server.stop();

const identity = (name) => ({ cert: readFileSync(at(`${name}.pem`)), key: readFileSync(at(`${name}.key`)) });
for (const policy of ["require", "request"]) {
    const strict = await start(binary, "0", folder, policy);
    const [port] = strict.ports;
    const ada = await open(port, identity("ada"));
    assert.match(await ada.ask("who"), / CN=ada$/);
    ada.socket.terminate();
    assert.notEqual(await refusal(port, identity("eve")), "connected");
    if (policy === "require") {
        assert.notEqual(await refusal(port), "connected");
        assert.match((await client(port, "-tls1_2")).text, /handshake failure/);
    } else {
        assert.match(await (await open(port)).ask("who"), / nobody$/);
    }
    await strict.stop();
    console.log(`passed: certificates of clients, ${policy}`);
}
process.exit(0);
