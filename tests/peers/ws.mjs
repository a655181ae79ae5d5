// npm's ws on the other end: node ws.mjs ECHO TYPED_EVENTS
import assert from "node:assert/strict";
import { Client, WebSocket, start, within } from "../support/program.mjs";

const [echo, typed] = process.argv.slice(2);

const checks = {
    async "every size around the three forms of length comes back"(url) {
        const client = await Client.open(url);
        for (const size of [0, 1, 125, 126, 127, 4095, 4096, 65535, 65536, 65537, 524288, 1048576]) {
            for (const data of ["é".repeat(size / 2) + "x".repeat(size % 2), Buffer.alloc(size, 254)]) {
                client.send(data);
                assert.deepEqual(await client.next(), data);
            }
        }
        await client.end();
    },

    async "fragments with a ping between them are one message"(url) {
        const client = await Client.open(url);
        const pong = new Promise((resolve) => client.socket.on("pong", resolve));
        client.socket.send("three ", { fin: false });
        client.socket.ping("now");
        client.socket.send("parts ", { fin: false });
        client.socket.send("here", { fin: true });
        assert.equal(String(await within(10_000, "the pong", pong)), "now");
        assert.equal(await client.next(), "three parts here");
        await client.end();
    },

    async "a close code and its reason come back"(url) {
        const client = await Client.open(url);
        client.socket.close(4001, "au revoir é");
        assert.equal((await within(10_000, "the close", client.closed)).code, 4001);
    },

    async "an extension that is offered and not known is left out"(url) {
        const client = await Client.open(url);
        assert.equal(client.socket.extensions, "");
        await client.end();
    },

    async "ten thousand messages of many clients come back in order"(url) {
        const clients = await Promise.all(Array.from({ length: 50 }, () => Client.open(url)));
        for (let n = 0; n < 200; ++n) clients.forEach((client, i) => client.send(`${i}:${n}`));
        await Promise.all(clients.map(async (client, i) => {
            for (let n = 0; n < 200; ++n) assert.equal(await client.next(), `${i}:${n}`);
            await client.end();
        }));
    },

    async "a client that vanishes takes nobody along"(url) {
        const [gone, stays] = [await Client.open(url), await Client.open(url)];
        gone.send("x".repeat(1000));
        gone.socket.terminate();
        stays.send("still here");
        assert.equal(await stays.next(), "still here");
        await stays.end();
    },

    async "a browser's page of another origin is refused"(url) {
        const stranger = new WebSocket(url, { origin: "https://evil.example" });
        const error = await within(10_000, "the refusal", new Promise((resolve) => stranger.on("error", resolve)));
        assert.match(error.message, /403/);
        const own = new WebSocket(url, { origin: url.replace("ws:", "http:").replace(/\/$/, "") });
        await within(10_000, "the accept", new Promise((resolve, reject) => own.on("open", resolve).on("error", reject)));
        own.terminate();
    },

    async "the end of the server is told"(url, server) {
        const client = await Client.open(url);
        await server.stop();
        assert.equal((await within(10_000, "the close", client.closed)).code, 1001);
    },
};

const server = await start(echo, "0");
for (const [sentence, check] of Object.entries(checks)) {
    await within(30_000, sentence, check(`ws://localhost:${server.ports[0]}/`, server));
    console.log(`passed: ${sentence}`);
}

const shop = await start(typed, "0");
const customer = await Client.open(`ws://localhost:${shop.ports[0]}/`);
customer.emit("buy", 4, '{"item":"tea","count":6}');
assert.equal(await customer.event("receipt"), '{"item":"tea","total":42.0}');
customer.emit("add", 4, "[1,2,");
assert.notEqual(await customer.event("problem"), "");
await customer.end();
await shop.stop();
console.log("passed: typed events");
process.exit(0);
