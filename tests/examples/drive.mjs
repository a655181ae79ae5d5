// Drives one example from outside, as its first user would: node drive.mjs NAME BINARY
import assert from "node:assert/strict";
import { Client, start, within } from "../support/program.mjs";

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

const [name, binary] = process.argv.slice(2);
assert.ok(drives[name], `drive.mjs does not know the example ${name}: say here what it does`);
const program = await start(binary, "0");
await within(40_000, name, drives[name](program.ports));
await program.stop();
console.log(`${name}: passed`);
process.exit(0);
