// The messages of arke.v1 that the C++ tests read too: the codec by itself, and what the client makes of them.
import assert from "node:assert/strict";
import { test } from "node:test";
import { readV1, writeV1 } from "../../client-js/src/arke_v1.js";
import { encode } from "../../client-js/src/values.js";
import { connectedV1, goldenV1, settle } from "./support.mjs";

const letters = {
    event: "e", request: "r", answer: "a", refusal: "f", join: "j", leave: "l", probe: "p", presence: "q", native: "m",
};
const hex = text => Uint8Array.from(Buffer.from(text, "hex"));

/** A row as it travels: text, or an ArrayBuffer. */
function frameOf({ frame, binary }) {
    if (binary === undefined) return frame;
    return Uint8Array.from(Buffer.concat([Buffer.from(frame), Buffer.from(binary, "hex")])).buffer;
}

/** What a handler gets. */
function valueOf({ type, value }) {
    if (type === "bigint") return BigInt(value);
    if (type === "bytes") return hex(value);
    return value; // undefined where there is none
}

/** Comparable also where it comes from a page's own realm. */
const plain = value => ArrayBuffer.isView(value) || value instanceof ArrayBuffer ? `bytes ${Buffer.from(value).toString("hex")}`
    : typeof value === "object" ? JSON.stringify(value) : value;

const withoutId = ({ frame, id }) => frame.replace(String(id), "1");

for (const row of goldenV1.messages) {
    const title = JSON.stringify(row.frame) + (row.binary === undefined ? "" : ` and the bytes ${row.binary || "(none)"}`);

    test(`it reads ${title}`, () => {
        const message = readV1(frameOf(row));
        assert.equal(message.kind, letters[row.kind]);
        assert.equal(message.error, undefined);
        if (row.id !== undefined) assert.equal(message.id, row.id);
        if (["join", "leave"].includes(row.kind)) assert.equal(message.data, row.name);
        else if (row.name !== undefined) assert.equal(message.name, row.name);
        if (row.js) assert.deepEqual(message.value, valueOf(row.js));
        if (row.kind === "refusal") assert.equal(message.data, row.data);
    });

    test(`it writes ${title}`, () => {
        const message = { kind: letters[row.kind], id: row.id, name: row.name, data: row.data ?? "" };
        if (["join", "leave"].includes(row.kind)) Object.assign(message, { name: undefined, data: row.name });
        if (row.js && row.kind !== "native") [message.type, message.data] = encode(valueOf(row.js));
        else if (row.js) message.data = valueOf(row.js);
        assert.equal(plain(writeV1(message)), plain(frameOf(row)));
    });

    if (row.kind === "event") {
        test(`a listener hears ${title}, and what it emits is the same`, () => {
            const { ws, socket, reported } = connectedV1();
            ws.On(row.name, value => {
                assert.equal(plain(value), plain(valueOf(row.js)));
                assert.equal(typeof value, typeof valueOf(row.js));
                ws.Emit(row.name, value);
            });
            socket.deliver(frameOf(row));
            assert.deepEqual(reported, []);
            assert.deepEqual(socket.sent.map(plain), [plain(frameOf(row))]);
        });
    } else if (row.kind === "request") {
        test(`Ask sends ${title} but for its number`, () => {
            const { ws, socket } = connectedV1();
            ws.Ask(row.name, valueOf(row.js));
            assert.deepEqual(socket.sent.map(plain), [plain(frameOf({ ...row, frame: withoutId(row) }))]);
        });
    } else if (row.kind === "answer") {
        test(`a listener's answer is ${title}`, async () => {
            const { ws, socket } = connectedV1();
            ws.On("question", () => valueOf(row.js));
            socket.deliver(`rv${row.id} question\n`);
            await settle();
            assert.deepEqual(socket.sent.map(plain), [plain(frameOf(row))]);
        });
        test(`an Ask is answered by ${title} but for its number`, async () => {
            const { ws, socket } = connectedV1();
            const answer = ws.Ask("question");
            socket.deliver(frameOf({ ...row, frame: withoutId(row) }));
            assert.equal(plain(await answer), plain(valueOf(row.js)));
        });
    } else if (row.kind === "refusal") {
        test(`an Ask fails by ${title} but for its number`, async () => {
            const { ws, socket } = connectedV1();
            const answer = ws.Ask("question");
            socket.deliver(withoutId(row));
            await assert.rejects(answer, error => {
                assert.equal(error.code, row.name === "tomorrow" ? "refused" : row.name); // a reason of later times
                if (row.data) assert.equal(error.message, row.data);
                return true;
            });
        });
    } else if (row.kind === "native") {
        test(`the message ${title} goes both ways`, () => {
            const { ws, socket } = connectedV1();
            const got = [];
            ws.OnMessage(message => got.push(message));
            socket.deliver(frameOf(row));
            ws.EmitMessage(valueOf(row.js));
            assert.deepEqual(got.map(plain), [plain(valueOf(row.js))]);
            assert.deepEqual(socket.sent.map(plain), [plain(frameOf(row))]);
        });
    }
}

for (const row of goldenV1.unknown) {
    test(`what a later version may say is skipped and counted: ${JSON.stringify(row.frame)} ${row.binary ?? ""}`, () => {
        const { ws, socket, reported } = connectedV1();
        ws.OnAny(() => assert.fail("it is no event"));
        ws.OnMessage(() => assert.fail("it is no message"));
        socket.deliver(frameOf(row));
        assert.equal(ws.counts.unknown, 1);
        assert.equal(ws.state, "open");
        assert.deepEqual([reported, socket.sent], [[], []]);
    });
}

for (const row of goldenV1.malformed) {
    test(`${row.what} is reported, counted and survived`, () => {
        const { ws, socket, reported } = connectedV1();
        const got = [];
        ws.On("chat", value => got.push(value));
        ws.OnMessage(() => assert.fail("it is no message"));
        socket.deliver(frameOf(row));
        assert.equal(ws.counts.malformed, 1);
        assert.equal(reported.length, 1);
        assert.deepEqual([socket.sent, got], [[], []]);
        socket.deliver("eschat\nafter");
        assert.deepEqual(got, ["after"]);
    });
}

test("data that is not what its type says: an event is reported, a request refused, an Ask fails", async () => {
    const { ws, socket, reported } = connectedV1();
    ws.On("chat", () => assert.fail("there is no value"));
    const answer = ws.Ask("question");
    socket.sent = [];
    for (const frame of ["enchat\nfive", "ebchat\n1", "ejchat\n{", "enchat\n", "rj7 chat\n{", "aj1 {"]) socket.deliver(frame);
    await assert.rejects(answer, { name: "WsError", code: "wrong-type" });
    assert.deepEqual(socket.sent, ["f7 wrong-type\n"]);
    assert.equal(ws.counts.malformed, 6);
    assert.equal(reported.length, 6);
});

test("numbers: integers as such, others as JSON", () => {
    const { ws, socket } = connectedV1();
    for (const [value, frame] of [
        [5, "enx\n5"], [-0, "enx\n0"], [2 ** 53 - 1, "enx\n9007199254740991"], [2 ** 53, "ejx\n9007199254740992"], [1e21, "ejx\n1e+21"],
        [1.5, "ejx\n1.5"], [-0.5, "ejx\n-0.5"], [5e-7, "ejx\n5e-7"], [10n ** 30n, `enx\n1${"0".repeat(30)}`], [-5n, "enx\n-5"],
    ]) {
        ws.Emit("x", value);
        assert.equal(socket.sent.pop(), frame);
    }
});

test("bytes are those of the view, and what is received is its own", () => {
    const { ws, socket } = connectedV1();
    const bytes = new Uint8Array([9, 1, 2, 9]);
    for (const value of [bytes.subarray(1, 3), new DataView(bytes.buffer, 1, 2), Uint8Array.from([1, 2]).buffer, Buffer.from([1, 2])]) {
        ws.Emit("x", value);
        assert.equal(plain(socket.sent.pop()), "bytes 6578780a0102");
    }
    let got;
    ws.On("x", value => { got = value; });
    socket.deliver(Uint8Array.from([...Buffer.from("exx\n"), 1, 2]).buffer);
    assert.equal(got.byteOffset, 0);
    assert.equal(got.buffer.byteLength, 2); // so that a Float32Array of it is what was sent
});

test("a Blob keeps its place and becomes the bytes behind the head", async () => {
    const { ws, socket } = connectedV1();
    ws.Emit("before");
    ws.Emit("picture", new Blob(["one"]));
    ws.EmitMessage(new Blob(["two"]));
    ws.Emit("after");
    assert.deepEqual(await Promise.all(socket.sent.map(sent => sent.text?.() ?? sent)),
        ["evbefore\n", "expicture\none", "mtwo", "evafter\n"]);
});

test("a probe of the server is answered", () => {
    const { socket } = connectedV1();
    socket.deliver("p");
    socket.deliver("q");
    assert.deepEqual(socket.sent, ["q"]);
});
