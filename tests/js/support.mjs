// What the tests of the client stand on: a WebSocket that a test plays, and the golden frames.
import { readFileSync } from "node:fs";
import vm from "node:vm";

export const root = new URL("../../", import.meta.url);
export const golden = JSON.parse(readFileSync(new URL("tests/golden/iris.json", root), "utf8"));
export const goldenV1 = JSON.parse(readFileSync(new URL("tests/golden/arke_v1.json", root), "utf8"));

process.env.TZ = "UTC"; // a Date's text has the zone in it

/** A WebSocket without a network: the test opens it, delivers to it and closes it. */
export class FakeWebSocket {
    static made = [];

    constructor(url, ...protocols) {
        Object.assign(this, { url, protocols, protocol: "", readyState: 0, binaryType: "blob", sent: [], closedWith: null });
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

    /** The handshake is done, and the server has chosen that subprotocol. */
    open(protocol = "") {
        this.protocol = protocol;
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

/** Time that a test turns by hand, for setTimeout and Date.now. */
export class Clock {
    now = Date.UTC(2016, 5, 1);
    #timers = new Map();
    #lastId = 0;

    get globals() {
        const clock = this;
        return {
            Date: class extends Date {
                static now() { return clock.now; }
            },
            setTimeout: (then, ms) => {
                const wait = ms >= 1 && ms < 2 ** 31 ? ms : 1; // what is longer, real clocks take for nothing
                this.#timers.set(++this.#lastId, { then, at: this.now + wait });
                return this.#lastId;
            },
            clearTimeout: id => { this.#timers.delete(id); },
        };
    }

    get pending() {
        return this.#timers.size;
    }

    /** How long until the next timer. */
    get next() {
        return Math.min(...[...this.#timers.values()].map(timer => timer.at)) - this.now;
    }

    advance(ms) {
        const end = this.now + ms;
        for (;;) {
            const [id, timer] = [...this.#timers].sort(([, a], [, b]) => a.at - b.at)[0] ?? [];
            if (!timer || timer.at > end) break;
            this.#timers.delete(id);
            this.now = Math.max(this.now, timer.at);
            timer.then();
        }
        this.now = end;
    }

    /** A closed laptop: the time of day goes on, timers do not. */
    sleep(ms) {
        this.now += ms;
        for (const timer of this.#timers.values()) timer.at += ms;
    }
}

/** Lets promises that are settled be heard. */
export const settle = () => new Promise(resolve => setImmediate(resolve));

/** Runs a committed script as a page's <script> does. Returns its Ws, its clock, what was reported, and `evaluate`. */
export function page(file, globals = {}) {
    const reported = [];
    const clock = new Clock();
    const window = vm.createContext({
        WebSocket: FakeWebSocket, TextDecoder, TextEncoder, URLSearchParams, Blob, console, ...clock.globals,
        reportError: error => reported.push(error.message), location: { host: "example.com:8080", protocol: "http:" }, ...globals,
    });
    const evaluate = code => vm.runInContext(code, window);
    vm.runInContext(readFileSync(new URL(`client-js/dist/${file}`, root), "utf8"), window, { filename: file });
    return { Ws: evaluate("Ws"), reported, evaluate, clock, window };
}

/** A Ws of that script whose socket is open, to a server of 2016. */
export function connected(file, globals) {
    const p = page(file, globals);
    const ws = new p.Ws("ws://example.com/chat");
    const socket = FakeWebSocket.last;
    socket.open();
    return { ...p, ws, socket };
}

/** A Ws of arke.js whose socket is open, to a server that speaks arke.v1. */
export function connectedV1(options = {}, globals = {}) {
    const p = page("arke.js", globals);
    const ws = new p.Ws("ws://example.com/chat", options);
    const socket = FakeWebSocket.last;
    socket.open("arke.v1");
    return { ...p, ws, socket };
}

/** The socket of a next attempt, opened; the delay before it is waited for. */
export function reopen(clock, protocol = "arke.v1") {
    const before = FakeWebSocket.made.length;
    while (FakeWebSocket.made.length === before) clock.advance(clock.next);
    FakeWebSocket.last.open(protocol);
    return FakeWebSocket.last;
}
