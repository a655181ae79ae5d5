// What the tests of the client stand on: a WebSocket that a test plays, and the golden frames.
import { readFileSync } from "node:fs";
import vm from "node:vm";

export const root = new URL("../../", import.meta.url);
export const golden = JSON.parse(readFileSync(new URL("tests/golden/iris.json", root), "utf8"));

process.env.TZ = "UTC"; // a Date's text has the zone in it

/** A WebSocket without a network: the test opens it, delivers to it and closes it. */
export class FakeWebSocket {
    static made = [];

    constructor(url, ...protocols) {
        Object.assign(this, { url, protocols, readyState: 0, binaryType: "blob", sent: [], closedWith: null });
        FakeWebSocket.made.push(this);
    }
    send(data) {
        if (this.readyState === 0) throw new Error("InvalidStateError");
        this.sent.push(data);
    }
    close(...args) {
        this.closedWith = args;
        this.readyState = 2;
    }

    open() {
        this.readyState = 1;
        this.onopen?.({});
    }
    deliver(data) {
        this.onmessage?.({ data });
    }
    end(code = 1000, reason = "") {
        this.readyState = 3;
        this.onclose?.({ code, reason });
    }
    static get last() {
        return FakeWebSocket.made.at(-1);
    }
}

/** Runs a committed script as a page's <script> does. Returns its Ws, what was reported, and `evaluate`. */
export function page(file, globals = {}) {
    const reported = [];
    const window = vm.createContext({
        WebSocket: FakeWebSocket, TextDecoder, TextEncoder, console, reportError: error => reported.push(error.message),
        location: { host: "example.com:8080", protocol: "http:" }, ...globals,
    });
    const evaluate = code => vm.runInContext(code, window);
    vm.runInContext(readFileSync(new URL(`client-js/dist/${file}`, root), "utf8"), window, { filename: file });
    return { Ws: evaluate("Ws"), reported, evaluate };
}

/** A Ws of that script whose socket is open. */
export function connected(file, globals) {
    const p = page(file, globals);
    const ws = new p.Ws("ws://example.com/chat");
    const socket = FakeWebSocket.last;
    socket.open();
    return { ...p, ws, socket };
}
