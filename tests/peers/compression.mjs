// permessage-deflate with npm's ws, in both roles and every combination of parameters: node compression.mjs DEFLATE_PEER
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import net from "node:net";
import { createRequire } from "node:module";
import zlib from "node:zlib";
import { WebSocket, start, within } from "../support/program.mjs";

const { WebSocketServer } = createRequire(new URL("./package.json", import.meta.url))("ws");
const [peer] = process.argv.slice(2);

const feed = (n, size) => {
    let text = "";
    for (let i = n; text.length < size; ++i) text += `{"symbol":"ARKE${i % 7}","price":${(i * 7919) % 10007}},`;
    return text.slice(0, size);
};

/** What ws may be told of permessage-deflate, by every value that changes anything. */
function* combinations(more = []) {
    for (const serverNoContextTakeover of [undefined, true]) {
        for (const clientNoContextTakeover of [undefined, true]) {
            for (const serverMaxWindowBits of [undefined, 8, 9, 15]) {
                for (const clientMaxWindowBits of [undefined, 8, 9, 15, ...more]) {
                    yield { serverNoContextTakeover, clientNoContextTakeover, serverMaxWindowBits, clientMaxWindowBits };
                }
            }
        }
    }
}

/** Opens ws's client, says everything twice, and wants it back. */
async function echoes(url, perMessageDeflate, messages) {
    const socket = new WebSocket(url, { perMessageDeflate: { threshold: 0, ...perMessageDeflate } });
    const waiting = [];
    socket.on("message", (data, isBinary) => waiting.shift()(isBinary ? data : String(data)));
    await within(10_000, "the accept", new Promise((resolve, reject) => socket.on("open", resolve).on("error", reject)));
    assert.match(socket.extensions, /permessage-deflate/);
    for (const message of [...messages, ...messages]) {
        const back = new Promise((resolve) => waiting.push(resolve));
        socket.send(message);
        assert.deepEqual(await within(10_000, "an echo", back), message);
    }
    const closed = new Promise((resolve) => socket.on("close", resolve));
    socket.close(1000);
    assert.equal(await within(10_000, "the close", closed), 1000);
}

const messages = ["", "x", feed(1, 200), feed(2, 5_000), randomBytes(300), feed(3, 100_000), Buffer.from(feed(4, 1_000))];

// ws as a client
for (const options of [[], ["send_takeover", "receive_takeover"],
    ["send_takeover", "send_bits=10", "receive_takeover", "receive_bits=9", "level=1"]]) {
    const server = await start(peer, "serve", "0", ...options);
    // false: ws does not let its window be limited.
    for (const combination of combinations([false])) {
        await echoes(`ws://localhost:${server.ports[0]}/`, combination, messages).catch((error) => {
            error.message += ` (server ${options.join(" ")}, ws ${JSON.stringify(combination)})`;
            throw error;
        });
    }
    await server.stop();
    console.log(`passed: ws's client with every combination of parameters, the server with [${options.join(" ")}]`);
}

// ws as a server. A client_max_window_bits that it asks for must have been offered: Arke's client offers it always.
let compressed = 0;
for (const options of [[], ["send_takeover", "receive_takeover"], ["send_takeover", "send_bits=11", "receive_takeover", "receive_bits=9"]]) {
    const most = Number(/receive_bits=(\d+)/.exec(options.join(" "))?.[1] ?? 15);
    for (const combination of combinations()) {
        // ws refuses the handshake where it is told to use a larger window than the client asks for.
        if (combination.serverMaxWindowBits > most) continue;
        const server = new WebSocketServer({ host: "127.0.0.1", port: 0, perMessageDeflate: { threshold: 0, ...combination } });
        await within(5_000, "ws listens", new Promise((resolve) => server.on("listening", resolve)));
        server.on("connection", (socket) => {
            if (/permessage-deflate/.test(socket.extensions)) ++compressed;
            socket.on("message", (data, isBinary) => socket.send(isBinary ? data : String(data)));
        });
        const child = spawn(peer, ["connect", `ws://localhost:${server.address().port}/`, ...options], { stdio: ["ignore", "inherit", "pipe"] });
        let said = "";
        child.stderr.on("data", (data) => { said += data; });
        const code = await within(20_000, "the client", new Promise((resolve) => child.on("close", resolve)));
        assert.equal(`${code} ${said}`, "0 ", `client ${options.join(" ")}, ws ${JSON.stringify(combination)}`);
        server.close();
    }
    console.log(`passed: ws's server with every combination of parameters, the client with [${options.join(" ")}]`);
}
assert.ok(compressed >= 2 * 64 + 48, `only ${compressed} connections were compressed`);

/** The status line and the extensions that a server answers an offer with. */
async function answer(port, offer) {
    const socket = net.connect(port, "127.0.0.1");
    socket.write(`GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n`
        + `Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Extensions: ${offer}\r\n\r\n`);
    let head = "";
    await within(10_000, "an answer", new Promise((resolve, reject) => {
        const hear = (data) => {
            head += data;
            if (!head.includes("\r\n\r\n")) return;
            socket.off("data", hear);
            resolve();
        };
        socket.on("data", hear).on("error", reject);
    }));
    return { socket, status: head.slice(9, 12), extensions: /^Sec-WebSocket-Extensions: (.*)\r$/im.exec(head)?.[1] ?? "" };
}

/** A client's frame of any size. */
function frame(first, payload) {
    const header = Buffer.alloc(14);
    header[0] = first;
    header[1] = 0xFF;
    header.writeBigUInt64BE(BigInt(payload.length), 2);
    if (payload.length > 65535) return Buffer.concat([header, payload]);
    if (payload.length > 125) return Buffer.concat([Buffer.from([first, 0xFE, payload.length >> 8, payload.length & 255, 0, 0, 0, 0]), payload]);
    return Buffer.concat([Buffer.from([first, 0x80 | payload.length, 0, 0, 0, 0]), payload]);
}

// What browsers offer, and two hundred offers at once.
{
    const server = await start(peer, "serve", "0", "max_message_size=1048576");
    const port = server.ports[0];
    const chromium = await answer(port, "permessage-deflate; client_max_window_bits");
    assert.equal(chromium.extensions, "permessage-deflate; server_no_context_takeover; client_no_context_takeover");
    chromium.socket.destroy();
    const many = await answer(port, Array(200).fill("permessage-deflate; unknown").join(", "));
    assert.deepEqual([many.status, many.extensions], ["101", ""]);
    many.socket.destroy();

    // A gibibyte of zeros, in a megabyte: whole, in fragments, and after valid messages. The server inflates no more of it than a
    // message may have, and its memory stays what it was.
    const block = zlib.deflateRawSync(Buffer.alloc(16 << 20), { finishFlush: zlib.constants.Z_FULL_FLUSH });
    const bomb = Buffer.concat(Array(64).fill(block));
    const pid = server.pid;
    const peak = () => Number(/VmHWM:\s*(\d+)/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))[1]) / 1024;
    const before = process.platform === "linux" ? peak() : 0;
    const halves = [bomb.subarray(0, bomb.length >> 1), bomb.subarray(bomb.length >> 1)];
    for (const frames of [[frame(0xC2, bomb)], [frame(0x42, halves[0]), frame(0x80, halves[1])],
        [frame(0xC1, zlib.deflateRawSync(feed(1, 900), { finishFlush: zlib.constants.Z_SYNC_FLUSH }).subarray(0, -4)), frame(0xC2, bomb)]]) {
        const { socket } = await answer(port, "permessage-deflate");
        const end = new Promise((resolve) => {
            let heard = Buffer.alloc(0);
            socket.on("data", (data) => { heard = Buffer.concat([heard, data]); }).on("error", () => {}).on("close", () => resolve(heard));
        });
        for (const each of frames) socket.write(each);
        const heard = await within(20_000, "the end", end);
        const close = heard.indexOf(Buffer.from([0x88]));
        assert.ok(close >= 0, "no close frame");
        assert.equal(heard.readUInt16BE(heard.lastIndexOf(0x88) + 2), 1009);
    }
    if (process.platform === "linux") {
        const grown = peak() - before;
        console.log(`passed: 1 GiB of zeros in ${bomb.length} bytes is refused with 1009; the server's memory grew by ${grown.toFixed(1)} MiB`);
        assert.ok(grown < 8, `the server's peak grew by ${grown} MiB`);
    }
    await server.stop();
}
process.exit(0);
