// Listeners of arke.js: once, taken back, of any event; and what the constructor takes.
import assert from "node:assert/strict";
import { test } from "node:test";
import { Refusal, Ws, WsError } from "../../client-js/src/index.js";
import { connectedV1, FakeWebSocket, page } from "./support.mjs";

test("Once hears one, and answers it", async () => {
    const { ws, socket } = connectedV1();
    const heard = [];
    ws.Once("chat", value => heard.push(value));
    ws.Once("buy", () => 42);
    socket.deliver("enchat\n1");
    socket.deliver("enchat\n2");
    socket.deliver("rv7 buy\n");
    socket.deliver("rv8 buy\n");
    await new Promise(setImmediate);
    assert.deepEqual(heard, [1]);
    assert.deepEqual(socket.sent.sort(), ["an7 42", "f8 unhandled\n"]);
});

test("Once that throws has heard its one", () => {
    const { ws, socket, reported } = connectedV1();
    ws.Once("chat", () => { throw new Error("oops"); });
    socket.deliver("enchat\n1");
    socket.deliver("enchat\n2");
    assert.deepEqual(reported, ["oops"]);
});

test("Off takes back one listener, also one of Once, or all of an event", () => {
    const { ws, socket } = connectedV1();
    const heard = [];
    const [a, b, c] = ["a", "b", "c"].map(name => () => heard.push(name));
    ws.On("chat", a);
    ws.Once("chat", b);
    ws.On("chat", c);
    ws.Off("chat", b);
    ws.Off("nothing");
    ws.Off("chat", () => {});
    socket.deliver("evchat\n");
    assert.deepEqual(heard, ["a", "c"]);
    ws.off("chat");
    socket.deliver("evchat\n");
    assert.deepEqual(heard, ["a", "c"]);
});

test("what On returns takes the listener back; so does that of every other", () => {
    const { ws, socket } = connectedV1({ reconnect: false });
    const heard = [];
    const listen = name => () => heard.push(name);
    for (const off of [
        ws.On("chat", listen("event")), ws.Once("chat", listen("once")), ws.OnAny(listen("any")), ws.OnMessage(listen("message")),
        ws.OnDisconnect(listen("disconnect")), ws.OnReconnect(listen("reconnect")),
    ]) off();
    ws.OnConnect(listen("connect"))();
    socket.deliver("evchat\n");
    socket.deliver("mx");
    socket.end();
    assert.deepEqual(heard, ["connect"]); // it was open already
});

test("a listener that is taken back while an event is told still hears that one", () => {
    const { ws, socket } = connectedV1();
    const heard = [];
    ws.On("chat", () => ws.Off("chat"));
    ws.On("chat", value => heard.push(value));
    socket.deliver("enchat\n1");
    socket.deliver("enchat\n2");
    assert.deepEqual(heard, [1]);
});

test("OnAny hears events, requests, and names of any kind, before their own listeners", () => {
    const { ws, socket } = connectedV1();
    const heard = [];
    ws.On("chat", value => heard.push(value));
    ws.OnAny((...args) => heard.push(args));
    socket.deliver("enchat\n1");
    socket.deliver("rn1 __proto__\n2");
    socket.deliver("mnative");
    assert.deepEqual(heard, [["chat", 1], 1, ["__proto__", 2]]);
});

test("camelCase names are the same", () => {
    const { Ws } = page("arke.js");
    const names = Object.getOwnPropertyNames(Ws.prototype).filter(name => /^[A-Z]/.test(name));
    assert.deepEqual(names.sort(), ["Ask", "Connect", "Disconnect", "Emit", "EmitMessage", "Join", "Leave", "Off", "On", "OnAny", "OnConnect",
        "OnDisconnect", "OnMessage", "OnReconnect", "Once", "Refuse"]);
    for (const name of names) assert.equal(Ws.prototype[name[0].toLowerCase() + name.slice(1)], Ws.prototype[name]);
});

test("the constructor takes options second, or subprotocols second and options third", () => {
    const { Ws } = page("arke.js");
    for (const [args, offered] of [
        [[{ protocols: ["a"] }], ["arke.v1", "a"]], [["a", { maxQueue: 5 }], ["arke.v1", "a"]], [[["a", "arke.v1"], {}], ["arke.v1", "a"]],
        [[undefined, { protocols: "b" }], ["arke.v1", "b"]], [[null], ["arke.v1"]], [[{}], ["arke.v1"]],
    ]) {
        new Ws("ws://x", ...args);
        assert.deepEqual([...FakeWebSocket.last.protocols[0]], offered);
    }
});

test("an option that is undefined is the default", () => {
    const { socket, clock } = connectedV1({ idle: undefined, timeout: undefined });
    clock.advance(25_000);
    assert.deepEqual(socket.sent, ["p"]);
});

test("an address that is none throws where it is made, and leaves nothing behind", () => {
    class Picky extends FakeWebSocket {
        constructor(...args) {
            super(...args);
            throw new SyntaxError("no address");
        }
    }
    const { Ws, clock } = page("arke.js", { WebSocket: Picky });
    assert.throws(() => new Ws("ws://x y"), { message: "no address" });
    assert.equal(clock.pending, 0);
});

test("errors are errors, with a name, a code and a message", () => {
    const error = new WsError("refused", "buy", "sold out");
    assert.ok(error instanceof Error && error instanceof Ws.Error);
    assert.deepEqual([error.name, error.code, error.event, error.message, String(error)],
        ["WsError", "refused", "buy", "sold out", "WsError: sold out"]);
    const refusal = Ws.prototype.refuse("no");
    assert.ok(refusal instanceof Refusal && refusal instanceof Ws.Refusal && refusal instanceof Error);
    assert.equal(String(refusal), "Refusal: no");
});
