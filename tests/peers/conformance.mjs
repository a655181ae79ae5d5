// The rules of RFC 6455 as npm's ws keeps them: node conformance.mjs ECHO TYPED_EVENTS
import assert from "node:assert/strict";
import { Client, start, within } from "../support/program.mjs";

const [echo, typed] = process.argv.slice(2);
const ends = (client) => within(10_000, "the close", client.closed);

/** Bytes or, as text, letters; each place differs from its neighbours. */
function payload(size, binary) {
    const bytes = Buffer.alloc(size);
    for (let i = 0; i !== size; ++i) bytes[i] = binary ? (i * 31 + (i >> 8)) & 255 : 97 + ((i * 7 + (i >> 8)) % 26);
    return binary ? bytes : bytes.toString("latin1");
}

const forms = [0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 124, 125, 126, 127, 128, 129, 255, 256, 257, 1023, 1024, 1025, 4095, 4096, 4097,
    16383, 16384, 16385, 65533, 65534, 65535, 65536, 65537, 65538, 131072, 262144, 524288, 1048575, 1048576];

const checks = {
    async "a message of every size comes back, text as text and binary as binary"({ url }) {
        const client = await Client.open(url);
        for (const size of forms) {
            for (const binary of [false, true]) {
                const data = payload(size, binary);
                client.send(data);
                assert.deepEqual(await client.next(), data, `${size} bytes`);
            }
        }
        // All of them in flight at once.
        const together = forms.filter((size) => size < 100_000).map((size) => payload(size, size % 2 === 0));
        together.forEach((data) => client.send(data));
        for (const data of together) assert.deepEqual(await client.next(), data);
        await client.end();
    },

    async "a message in fragments of every size comes back whole, with pings between them"({ url }) {
        const client = await Client.open(url);
        const pongs = [];
        client.socket.on("pong", (data) => pongs.push(String(data)));
        const pings = [];
        for (const binary of [false, true]) {
            for (const size of [0, 1, 2, 125, 126, 127, 1000, 65535, 65536, 65537, 200000]) {
                const data = payload(size, binary);
                for (const part of [1, 2, 125, 126, 127, 4096, 65535, 65536]) {
                    if (size / part > 2000) continue;
                    for (let at = 0; at < size; at += part) {
                        client.socket.send(data.slice(at, at + part), { binary, fin: false });
                        if (at % 7 === 0 && pings.length < 500) client.socket.ping(String(pings.push(String(pings.length)) - 1));
                    }
                    client.socket.send("", { binary, fin: true });
                    assert.deepEqual(await client.next(), data, `${size} bytes in fragments of ${part}`);
                }
            }
        }
        assert.deepEqual(pongs, pings);
        await client.end();
    },

    async "a code point that fragments share is one"({ url }) {
        const client = await Client.open(url);
        const text = "grüße, 世界, 👋🏽";
        const bytes = Buffer.from(text);
        for (let at = 0; at <= bytes.length; ++at) {
            client.socket.send(bytes.subarray(0, at), { binary: false, fin: false });
            client.socket.send(bytes.subarray(at), { binary: false, fin: true });
            assert.equal(await client.next(), text);
        }
        await client.end();
    },

    async "pings of every size are answered with what they carried, in order"({ url }) {
        const client = await Client.open(url);
        const pongs = [];
        const all = new Promise((resolve) => client.socket.on("pong", (data) => pongs.push(data) === 126 && resolve()));
        for (let size = 0; size !== 126; ++size) client.socket.ping(payload(size, true));
        client.socket.pong("nobody asked");
        await within(10_000, "the pongs", all);
        pongs.forEach((data, size) => assert.deepEqual(data, payload(size, true)));
        await client.end();
    },

    async "ten thousand messages of one client come back, each in its place"({ url }) {
        const client = await Client.open(url);
        const message = (n) => (n % 10 === 9 ? payload(n, true) : `${n}:${payload(n % 300, false)}`);
        let came = 0;
        const received = (async () => {
            for (; came !== 10_000; ++came) assert.deepEqual(await client.next(), message(came));
        })();
        for (let n = 0; n !== 10_000; ++n) {
            client.send(message(n));
            // Some are always on their way in both directions; whoever only sends is too slow a reader.
            while (n - came >= 100) await new Promise(setImmediate);
        }
        await within(25_000, "ten thousand messages", received);
        await client.end();
    },

    async "the client closes with every code and reason that may be, and is answered with its code"({ url }) {
        for (const code of [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999]) {
            for (const reason of ["", "au revoir é", "x".repeat(123)]) {
                const client = await Client.open(url);
                client.socket.close(code, reason);
                assert.deepEqual(await ends(client), { code, reason: "" });
            }
        }
        const silent = await Client.open(url);
        silent.socket.close();
        assert.deepEqual(await ends(silent), { code: 1005, reason: "" });
    },

    async "what was sent before a close is answered before it"({ url }) {
        const client = await Client.open(url);
        for (let n = 0; n !== 100; ++n) client.send(`${n}`);
        client.socket.close(4000);
        for (let n = 0; n !== 100; ++n) assert.equal(await client.next(), `${n}`);
        assert.equal((await ends(client)).code, 4000);
    },

    async "a message over the bound is closed with 1009, at the bound it is taken; others lose nothing"({ bounded }) {
        const [client, other] = [await Client.open(bounded), await Client.open(bounded)];
        client.send("x".repeat(1000));
        assert.equal((await client.next()).length, 1000);
        client.send("x".repeat(1001));
        assert.deepEqual(await ends(client), { code: 1009, reason: "a message over max_message_size" });
        other.send("still here");
        assert.equal(await other.next(), "still here");
        await other.end();
    },

    async "the server closes"({ events }) {
        const client = await Client.open(events);
        client.emit("enough", 2, "true");
        assert.deepEqual(await ends(client), { code: 1000, reason: "as you wish" });
    },

    async "both close at once, and each hears the other's code"({ events }) {
        for (let n = 0; n !== 50; ++n) {
            const client = await Client.open(events);
            client.emit("enough", 2, "true");
            client.socket.close(4000);
            assert.deepEqual(await ends(client), { code: 1000, reason: "as you wish" });
        }
    },

    async "a hundred clients close, and the server stops, all at once"({ servers: [server], url }) {
        const clients = await Promise.all(Array.from({ length: 100 }, () => Client.open(url)));
        const stopped = server.stop();
        clients.forEach((client, n) => n % 2 === 0 && client.socket.close(4000));
        for (const [n, client] of clients.entries()) {
            const { code } = await ends(client);
            assert.ok(code === 1001 || (n % 2 === 0 && code === 4000), `client ${n} heard ${code}`);
        }
        await stopped;
    },
};

const servers = await Promise.all([start(echo, "0"), start(echo, "0", "1000"), start(typed, "0")]);
const [url, bounded, events] = servers.map((server) => `ws://localhost:${server.ports[0]}/`);
for (const [sentence, check] of Object.entries(checks)) {
    await within(30_000, sentence, check({ url, bounded, events, servers }));
    console.log(`passed: ${sentence}`);
}
await Promise.all(servers.slice(1).map((server) => server.stop()));
process.exit(0);
