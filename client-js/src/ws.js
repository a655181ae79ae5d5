// Ws: typed events, requests with answers, rooms, and a connection that comes back by itself. One timer serves its states:
//
//   state        ends when the timer does
//   "connecting"   an attempt that leads to nothing (`conn` is null as long as a function for the token runs)
//   "open"         a silence: then it asks whether anybody is there
//   "closing"      a close that nobody answers
//   "waiting"      the delay before the next attempt
//   "closed"       no timer: this is the end, but for Connect()
import { absolute, addCamelCase, callable, checkName, report } from "./common.js";
import { bytesOf, encode, isBlob } from "./values.js";
import { readV1, writeV1 } from "./arke_v1.js";
import { readIris, writeIris } from "./iris.js";

const arkeV1 = "arke.v1";
const lasted = 5000; // ms that a connection lives before the next delays begin from the shortest again
const step = 5000; // ms between looks at the clock: where it jumps by more, the computer slept

const defaults = {
    maxQueue: 1024,
    minDelay: 1000,
    maxDelay: 30000,
    idle: 25000,
    timeout: 10000,
    askTimeout: 10000,
    reconnect: true,
    prefix: "iris-websocket-message:",
};

/** Whether to come back. Not after a normal end, a refusal on principle, and what an application says by a code of its own. */
const usually = code => code !== 1000 && code !== 1008 && code < 4000;

const refusals = ["refused", "unhandled", "wrong-type", "failed", "busy"];

// Listeners of events stand under their names, the others under these.
const [onConnect, onReconnect, onDisconnect, onMessage, onAny] = [0, 1, 2, 3, 4];

/** Why an Ask or a Join has no answer. `code` is a refusal of the server, or says what happened here. */
export class WsError extends Error {
    constructor(code, event, text, cause) {
        super(text || `Ws: no answer to ${JSON.stringify(event)}: ${code}`);
        Object.assign(this, { name: "WsError", code, event, cause });
    }
}

/** Thrown or returned by a listener, it refuses what the server asks, and its message says why. */
export class Refusal extends Error {
    name = "Refusal";
}

export class Ws {
    static Error = WsError;
    static Refusal = Refusal;

    conn = null; // the WebSocket underneath, where there is one
    state = "waiting";
    protocol = ""; // arke.v1, or iris for that of 2016
    counts = { unknown: 0, malformed: 0, late: 0, expired: 0 };

    #options = { ...defaults };
    #listeners = new Map();
    #queue = []; // what waits for a connection
    #requests = new Map(); // what was sent and not yet answered, by id
    #rooms = new Set();
    #lastId = 0;

    #timer;
    #attempt; // an object that is another one for each
    #attempts = 0; // since a connection lasted
    #failures = 0; // since one opened
    #bare = false; // whether this attempt offers no arke.v1
    #knowsV1; // whether the server does, where that is known
    #spokeV1; // whether it did, when one opened last
    #opened = 0; // when; 0 before the first time
    #toldDown = false;
    #heard; // when
    #probed; // when, or 0
    #wakes; // how often since it heard something
    #due; // when the timer should end

    constructor(url, protocols, options) {
        if (protocols && typeof protocols === "object" && !Array.isArray(protocols)) [protocols, options] = [null, protocols];
        const all = { WebSocket: globalThis.WebSocket, protocols, ...options, url };
        for (const key in all) if (all[key] !== undefined) this.#options[key] = all[key];
        if (!this.#options.WebSocket) {
            throw new Error("Ws: there is no WebSocket here; pass one: new Ws(endpoint, protocols, { WebSocket })");
        }
        this.#connect();
        this.#listen(true);
    }

    /** Calls `listener()` each time that a connection has opened; at once where one is open. */
    OnConnect(listener) {
        const off = this.#add(onConnect, listener, "OnConnect");
        if (this.state === "open") fire([listener]);
        return off;
    }

    /** Calls `listener(attempts)` when a connection has opened that is not the first, after OnConnect. */
    OnReconnect(listener) {
        return this.#add(onReconnect, listener, "OnReconnect");
    }

    /** Calls `listener(code, reason, willReconnect)` when the connection is lost or ends, or the first attempt fails. */
    OnDisconnect(listener) {
        return this.#add(onDisconnect, listener, "OnDisconnect");
    }

    /** Calls `listener(message)` for each message that is no event: a string or a Uint8Array. */
    OnMessage(listener) {
        return this.#add(onMessage, listener, "OnMessage");
    }

    /** Calls `listener(event, value)` for every event and request, before its own listeners. It does not answer. */
    OnAny(listener) {
        return this.#add(onAny, listener, "OnAny");
    }

    /** Calls `listener(value)` for each event of that name. What it returns, or a promise of it, answers a request. */
    On(event, listener) {
        return this.#add(checkName(event), listener, "On");
    }

    Once(event, listener) {
        callable(listener, "Once");
        const once = value => {
            off();
            return listener(value);
        };
        once.of = listener;
        const off = this.On(event, once);
        return off;
    }

    /** Takes back one listener of an event, or all of them. */
    Off(event, listener) {
        const left = (this.#listeners.get(event) ?? []).filter(l => listener && l !== listener && l.of !== listener);
        if (left.length > 0) this.#listeners.set(event, left);
        else this.#listeners.delete(event);
    }

    /** Sends an event, or lets it wait for a connection. False: it was dropped, because none will come or it is volatile. */
    Emit(event, data, options) {
        const [type, encoded] = encode(data);
        return this.#send({ kind: "e", name: checkName(event), type, data: encoded }, options);
    }

    /** The same for a message that is no event: a string, an ArrayBuffer, a typed array or a Blob. */
    EmitMessage(message, options) {
        return this.#send({ kind: "m", data: bytesOf(message) ?? (isBlob(message) ? message : String(message)) }, options);
    }

    /** A promise of what the server answers. It is never sent twice; it fails with a WsError. */
    Ask(event, data, options) {
        return this.#request(event, () => {
            const [type, encoded] = encode(data);
            return { kind: "r", name: checkName(event), type, data: encoded };
        }, options);
    }

    /** Asks to enter a room; once in, it asks again after each reconnect. */
    Join(room, options) {
        room = String(room);
        return this.#request(room, () => ({ kind: "j", data: room, again: true }), options)
            .then(() => { this.#rooms.add(room); });
    }

    Leave(room, options) {
        room = String(room);
        this.#rooms.delete(room);
        return this.#request(room, () => ({ kind: "l", data: room, again: true }), options)
            .then(() => { this.#rooms.delete(room); });
    }

    /** What a listener throws or returns to refuse a request, and to say why. */
    Refuse(why) {
        return new Refusal(why);
    }

    /** Connects now where it waits for the next attempt, and again after the end. */
    Connect() {
        if (this.state === "closed") {
            this.#attempts = 0;
            this.#toldDown = false;
            this.#listen(true);
        } else if (this.state !== "waiting") return;
        this.#connect();
    }

    /** Ends it: no reconnect. OnDisconnect hears when it is done. */
    Disconnect(code, reason) {
        if (this.state === "closed") return;
        this.conn?.close(code, reason); // throws where the code is none that one may send
        this.state = "closing";
        if (!this.conn) return this.#closed(code ?? 1000, reason);
        this.#later(this.#options.timeout, () => this.#closed(1006, "the close was not answered"));
    }

    #add(key, listener, method) {
        const others = this.#listeners.get(key) ?? [];
        this.#listeners.set(key, [...others, callable(listener, method)]);
        return () => this.Off(key, listener);
    }

    #fire(key, ...values) {
        fire(this.#listeners.get(key) ?? [], ...values);
    }

    #later(ms, then) {
        clearTimeout(this.#timer);
        this.#timer = after(ms, then);
    }

    // ---- connections

    #connect(bare = this.#knowsV1 === false) {
        const { url, query, protocols, timeout } = this.#options;
        const attempt = this.#attempt = {};
        this.#bare = bare;
        this.state = "connecting";
        const parts = [url, query, protocols];
        const isMade = part => typeof part === "function";
        if (!parts.some(isMade)) {
            this.#dial(...parts);
        } else {
            Promise.all(parts.map(async part => isMade(part) ? part() : part))
                .then(made => { if (this.#attempt === attempt) this.#dial(...made); })
                .catch(error => {
                    report(error);
                    if (this.#attempt === attempt) this.#closed(1006, String(error));
                });
        }
        this.#later(timeout, () => this.#closed(1006, `no connection within ${timeout} ms`));
    }

    #dial(url, query, protocols) {
        const { WebSocket } = this.#options;
        let target = absolute(url);
        if (query) target += (target.includes("?") ? "&" : "?") + new URLSearchParams(query);
        const offered = [...new Set([this.#bare ? [] : arkeV1, protocols || []].flat())];
        const conn = offered.length > 0 ? new WebSocket(target, offered) : new WebSocket(target);
        conn.binaryType = "arraybuffer";
        conn.onopen = () => this.#open();
        conn.onmessage = event => this.#receive(event.data);
        conn.onerror = () => {}; // a close with its code always follows; the package ws throws where nobody listens
        conn.onclose = event => this.#closed(event.code, event.reason);
        this.conn = conn;
    }

    #open() {
        // It may have come back between the attempt that offered arke.v1 and this one: it is asked once more.
        if (this.#bare && this.#spokeV1) {
            this.#attempts = this.#spokeV1 = 0;
            return this.#closed(1006);
        }
        const again = this.#opened > 0;
        this.#knowsV1 = this.#spokeV1 = this.conn.protocol === arkeV1;
        this.protocol = this.#knowsV1 ? arkeV1 : "iris";
        this.state = "open";
        this.#failures = 0;
        this.#toldDown = false;
        this.#opened = this.#heard = this.#due = Date.now();
        this.#probed = this.#wakes = 0;
        clearTimeout(this.#timer);
        if (this.#knowsV1) this.#look();

        for (const room of this.#rooms) {
            this.#request(room, () => ({ kind: "j", data: room })).catch(error => {
                if (refusals.includes(error.code)) this.#rooms.delete(room);
                if (error.code !== "disconnected") report(error);
            });
        }
        // A page says again who it is before what waited. The first time, what waits is what it said first.
        if (again) {
            this.#fire(onConnect);
            this.#fire(onReconnect, this.#attempts);
        }
        while (this.#queue.length > 0 && this.#isOpen()) {
            try {
                this.#write(this.#queue.shift());
            } catch (error) {
                report(error);
            }
        }
        if (!again) this.#fire(onConnect);
    }

    #isOpen() {
        return this.state === "open" && this.conn.readyState === 1;
    }

    #closed(code, reason = "") {
        const { conn, state } = this;
        if (conn) {
            conn.onopen = conn.onmessage = conn.onclose = null;
            if (conn.readyState < 2) conn.close();
        }
        this.conn = this.#attempt = null;
        clearTimeout(this.#timer);

        // A browser fails a handshake whose offer is not answered, and does not say so: a server of 2016, or none at all.
        if (state === "connecting") {
            if (++this.#failures > 2) this.#knowsV1 = undefined; // it may be another server now
            if (this.#knowsV1 === undefined && !this.#bare) return this.#connect(true);
        }

        const open = [...this.#requests.values()];
        this.#requests.clear();
        this.#queue.unshift(...open.filter(request => request.again));
        for (const request of open) if (!request.again) request.done("disconnected");

        if (state === "open" && Date.now() - this.#opened >= lasted) this.#attempts = 0;
        const delay = state === "closing" ? false : this.#delay(code, reason);
        const willReconnect = typeof delay === "number";
        if (willReconnect) {
            this.state = "waiting";
            this.#later(delay, () => this.#connect());
        } else {
            this.state = "closed";
            this.#listen(false);
            for (const item of this.#queue.splice(0)) item.done?.("disconnected");
        }
        if (willReconnect && this.#toldDown) return;
        this.#toldDown = true;
        this.#fire(onDisconnect, code, reason, willReconnect);
    }

    /** In ms; anything else ends it. Full jitter: clients that lost their server together do not come back together. */
    #delay(code, reason) {
        const { reconnect, minDelay, maxDelay } = this.#options;
        const attempt = ++this.#attempts;
        try {
            const says = reconnect === true ? usually(code) : reconnect && reconnect(code, reason, attempt);
            return says === true ? Math.random() * Math.min(maxDelay, minDelay * 2 ** (attempt - 1)) : says;
        } catch (error) {
            report(error);
        }
    }

    // ---- is anybody there? A browser does not show pings

    #look() {
        const { idle, timeout } = this.#options;
        const now = Date.now();
        this.#heard = Math.min(this.#heard, now); // the clock may have been set back
        // Who wakes asks again, and gives the answer its time. In a hidden tab each look is as late as that, so not for ever.
        if ((now > this.#due + step && ++this.#wakes < 3) || (!this.#probed && now - this.#heard >= idle)) {
            this.#probed = now;
            this.conn.send("p");
        } else if (this.#probed && now - this.#probed >= timeout) {
            return this.#closed(1006, "the server is silent");
        }
        const next = Math.min(step, this.#probed ? this.#probed + timeout - now : this.#heard + idle - now);
        this.#due = now + next;
        this.#later(next, () => this.#look());
    }

    #listen(on) {
        const method = on ? "addEventListener" : "removeEventListener";
        globalThis[method]?.("online", this.#wake);
        globalThis.document?.[method]("visibilitychange", this.#wake);
    }

    #wake = ({ type }) => {
        if (type === "visibilitychange" && document.visibilityState === "hidden") return;
        if (this.state === "waiting") this.#connect();
        if (this.state === "open" && this.#knowsV1) {
            this.#due = 0;
            this.#look();
        }
    };

    // ---- out

    #send(item, { ttl, volatile } = {}) {
        if (this.#isOpen()) {
            this.#write(item);
            return true;
        }
        if (volatile || this.state === "closing" || this.state === "closed") return false;
        const { maxQueue } = this.#options;
        if (this.#queue.length >= maxQueue) this.#queue = this.#queue.filter(waiting => !this.#isLate(waiting));
        if (this.#queue.length >= maxQueue) {
            throw new RangeError(`Ws: ${maxQueue} messages wait for the connection already; ` +
                "emit inside OnConnect, make them volatile, or raise maxQueue");
        }
        if (ArrayBuffer.isView(item.data)) item.data = item.data.slice(); // it must not change while it waits
        if (ttl !== undefined) item.until = Date.now() + ttl;
        this.#queue.push(item);
        return true;
    }

    #isLate(item) {
        const late = item.until <= Date.now();
        if (late) this.counts.expired++;
        return late;
    }

    #write(item) {
        if (this.#isLate(item)) return;
        if (item.done) {
            if (!this.#knowsV1) return item.done("unsupported");
            do this.#lastId = (this.#lastId + 1) >>> 0; while (this.#requests.has(this.#lastId));
            this.#requests.set(item.id = this.#lastId, item);
        }
        this.conn.send(this.#knowsV1 ? writeV1(item) : writeIris(item, this.#options.prefix));
    }

    /** Sends what wants an answer; whatever comes first of answer, timeout, abort and the end settles it. */
    #request(name, make, { timeout = this.#options.askTimeout, signal, volatile } = {}) {
        return new Promise((resolve, reject) => {
            let timer;
            const item = make();
            const abort = () => item.done("aborted", "", signal.reason);
            item.done = (code, text, value) => {
                clearTimeout(timer);
                signal?.removeEventListener("abort", abort);
                if (this.#requests.get(item.id) === item) this.#requests.delete(item.id);
                else this.#queue = this.#queue.filter(waiting => waiting !== item);
                if (code) reject(new WsError(code, name, text, value));
                else resolve(value);
            };
            if (signal?.aborted) return abort();
            signal?.addEventListener("abort", abort);
            timer = after(timeout, () => item.done("timeout"));
            try {
                if (!this.#send(item, { volatile })) item.done("disconnected");
            } catch (error) {
                item.done("busy", error.message);
            }
        });
    }

    // ---- in

    #receive(data) {
        this.#heard = Date.now();
        this.#probed = this.#wakes = 0;
        let message;
        try {
            message = this.#knowsV1 ? readV1(data) : readIris(data, this.#options.prefix);
        } catch (error) {
            message = { error };
        }
        const { kind, id, name, value, error } = message ?? {};
        if (error) {
            this.counts.malformed++;
            report(error);
            if (kind === "r") this.#refuse(this.conn, id, "wrong-type");
            if (kind === "a") this.#settle(id, "wrong-type");
            return;
        }
        switch (kind) {
            case "m": return this.#fire(onMessage, value);
            case "e":
                this.#fire(onAny, name, value);
                return this.#fire(name, value);
            case "r":
                this.#fire(onAny, name, value);
                return this.#answer(id, name, value);
            case "a": return this.#settle(id, "", "", value);
            case "f": return this.#settle(id, refusals.includes(name) ? name : "refused", value);
            case "p": return this.conn.send("q");
            case "q": return; // that it came is all
            default: this.counts.unknown++;
        }
    }

    #settle(id, ...outcome) {
        const request = this.#requests.get(id);
        if (request) request.done(...outcome);
        else this.counts.late++;
    }

    /** The first listener that does not return undefined answers, be it with a value, a promise, a Refusal or a throw. */
    async #answer(id, name, value) {
        const { conn } = this;
        const listeners = this.#listeners.get(name);
        if (!listeners) return this.#refuse(conn, id, "unhandled");
        const [first, ...others] = listeners.map(listener => {
            try {
                return listener(value);
            } catch (error) {
                return Promise.reject(error);
            }
        }).filter(result => result !== undefined);
        for (const other of others) Promise.resolve(other).catch(report);
        try {
            const answer = await first;
            if (answer instanceof Refusal) throw answer;
            const [type, data] = encode(answer);
            this.#reply(conn, { kind: "a", id, type, data });
        } catch (error) {
            if (error instanceof Refusal) return this.#refuse(conn, id, "refused", error.message);
            report(error); // its text stays here
            this.#refuse(conn, id, "failed");
        }
    }

    #refuse(conn, id, name, data = "") {
        this.#reply(conn, { kind: "f", id, name, data });
    }

    /** Only on the connection that asked. */
    #reply(conn, message) {
        if (this.conn === conn && this.#isOpen()) conn.send(writeV1(message));
    }
}

addCamelCase(Ws.prototype);

function after(ms, then) {
    if (ms < 2 ** 31) return setTimeout(then, ms);
}

/** Calls all of them: what one throws, also later, is reported as an uncaught error is, and does not stop the others. */
function fire(listeners, ...values) {
    for (const listener of listeners) {
        try {
            listener(...values)?.then?.(undefined, report);
        } catch (error) {
            report(error);
        }
    }
}
