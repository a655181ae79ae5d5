// The golden frames, which the C++ tests read too, against the scripts as servers hand them out.
import assert from "node:assert/strict";
import { test } from "node:test";
import { connected, golden } from "./support.mjs";

for (const row of golden.from_client) {
    test(`iris-ws.js sends ${row.js} to ${row.event} as ${row.tag};${row.data}`, () => {
        const { ws, socket, evaluate } = connected("iris-ws.js");
        if (row.js === "(nothing)") ws.Emit(row.event);
        else ws.Emit(row.event, evaluate(`(${row.js})`));
        assert.deepEqual(socket.sent, [row.frame]);
    });
}

test("the rows of from_client are made of their own parts", () => {
    for (const row of [...golden.from_client, ...golden.from_server]) {
        assert.equal(row.frame, `${golden.prefix}${row.event};${row.tag};${row.data}`);
    }
});

for (const row of golden.from_server) {
    test(`iris-ws.js hands over the raw text of ${row.cpp}, ${row.event};${row.tag};${row.data}`, () => {
        const { ws, socket } = connected("iris-ws.js");
        const got = [];
        ws.On(row.event, data => got.push(data));
        socket.deliver(row.frame);
        assert.deepEqual(got, [row.data]);
    });

    test(`arke.js hands over the value of ${row.cpp}, ${row.event};${row.tag};${row.data}`, () => {
        const { ws, socket } = connected("arke.js");
        const got = [];
        ws.On(row.event, value => got.push(value));
        socket.deliver(row.frame);
        assert.equal(got.length, 1);
        const { type, value } = row.js_value;
        if (type === "bigint") assert.equal(got[0], BigInt(value));
        else if (type === "bytes") assert.deepEqual(got[0], new TextEncoder().encode(value));
        else if (type === "json") assert.equal(JSON.stringify(got[0]), JSON.stringify(value)); // objects of another realm
        else assert.equal(got[0], value);
        if (type in { string: 1, number: 1, boolean: 1 }) assert.equal(typeof got[0], type);
    });

    test(`arke.js sends back what it got of ${row.cpp}, ${row.event};${row.tag};${row.data}`, () => {
        const { ws, socket } = connected("arke.js");
        ws.On(row.event, value => ws.Emit(row.event, value));
        socket.deliver(row.frame);
        const number = row.tag === 4 && typeof row.js_value.value === "number"; // JavaScript has one kind of number
        assert.deepEqual(socket.sent, [number ? row.frame.replace(";4;", ";1;") : row.frame]);
    });
}

for (const file of ["iris-ws.js", "arke.js"]) {
    for (const { what, frame } of golden.malformed) {
        test(`${file} survives ${what}: ${frame}`, () => {
            const { ws, socket, reported } = connected(file);
            const got = [];
            ws.On("chat", data => got.push(data));
            ws.OnMessage(data => got.push(data));
            socket.deliver(frame);
            socket.deliver(`${golden.prefix}chat;0;after`);
            assert.equal(got.length, 2); // once as a message of an unknown kind, once the event after it
            assert.equal(got[1], "after");
            assert.deepEqual(reported, []);
        });
    }
}
