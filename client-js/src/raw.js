// Ws as the pages of 2016 know it: the protocol of those years, one connection, and listeners that get the raw text
// whatever its type. Emit tags values as the script of those years did, numbers first. So true goes as 1;true and "5" as
// 1;5; the receiver's type decides.
//
//   message = event | native
//   event   = prefix name ";" tag ";" data         in a text message
//   tag     = "0" text | "1" number | "2" boolean | "3" bytes | "4" JSON
//   data    = the rest, as it is; may hold ";"     a name may not, there is no escape
//   native  = everything else
import { absolute, addCamelCase, callable, checkIrisName, isArrayBuffer, parseIris, report } from "./common.js";

const states = { connecting: 0, open: 1 };

export class Ws {
    #prefix;
    #maxQueue;
    #queue = [];
    #onConnect = [];
    #onDisconnect = [];
    #onMessage = [];
    #onEvent = new Map(); // no plain object: __proto__ and constructor are as good names as any

    constructor(endpoint, protocols, options) {
        const { WebSocket = globalThis.WebSocket, prefix = "iris-websocket-message:", maxQueue = 1024 } = options ?? {};
        if (!WebSocket) {
            throw new Error("Ws: there is no WebSocket here; pass one: new Ws(endpoint, protocols, { WebSocket })");
        }
        this.#prefix = prefix;
        this.#maxQueue = maxQueue;

        const url = absolute(endpoint);
        const conn = protocols?.length > 0 ? new WebSocket(url, protocols) : new WebSocket(url);
        conn.onopen = () => this.#opened();
        conn.onmessage = event => this.#received(event.data);
        conn.onerror = () => {}; // a close with its code always follows; the package ws throws where nobody listens
        conn.onclose = event => {
            this.#queue = [];
            fire(this.#onDisconnect, event.code, event.reason);
        };
        this.conn = conn;
    }

    /** Calls `listener()` when the connection is open; at once when it is already. */
    OnConnect(listener) {
        this.#onConnect.push(callable(listener, "OnConnect"));
        if (this.conn.readyState === states.open) fire([listener]);
    }

    /** Calls `listener(code, reason)` when the connection is closed, or could not be opened. */
    OnDisconnect(listener) {
        this.#onDisconnect.push(callable(listener, "OnDisconnect"));
    }

    /** Calls `listener(message)` for each message that is no event. */
    OnMessage(listener) {
        this.#onMessage.push(callable(listener, "OnMessage"));
    }

    /** Calls `listener(text)` for each event of that name, in the order in which listeners were added. */
    On(event, listener) {
        checkIrisName(event);
        callable(listener, "On");
        if (!this.#onEvent.has(event)) this.#onEvent.set(event, []);
        this.#onEvent.get(event).push(listener);
    }

    /** Sends an event. Before the connection is open it waits, in order; after the end it is dropped and false returned. */
    Emit(event, data) {
        checkIrisName(event);
        return this.#send(this.#prefix + event + ";" + tagged(data));
    }

    /** Sends a message that is no event: a string, an ArrayBuffer, a typed array or a Blob. Waits as Emit does. */
    EmitMessage(message) {
        return this.#send(message);
    }

    /** Closes the connection; OnDisconnect hears when it is done. */
    Disconnect(code, reason) {
        this.conn.close(code, reason);
    }

    #send(message) {
        if (this.conn.readyState === states.open) {
            this.conn.send(message);
            return true;
        }
        if (this.conn.readyState !== states.connecting) return false;
        if (this.#queue.length >= this.#maxQueue) {
            throw new RangeError(`Ws: ${this.#maxQueue} messages wait for the connection already; ` +
                "emit inside OnConnect, or raise options.maxQueue");
        }
        this.#queue.push(snapshot(message));
        return true;
    }

    #opened() {
        // First what was emitted first: what waits is older than what the listeners will emit.
        const waiting = this.#queue;
        this.#queue = [];
        for (const message of waiting) this.conn.send(message);
        fire(this.#onConnect);
    }

    #received(data) {
        const event = typeof data === "string" ? parseIris(data, this.#prefix) : null;
        if (!event) return fire(this.#onMessage, data);
        const listeners = this.#onEvent.get(event.name);
        if (listeners) fire(listeners, event.text);
    }
}

addCamelCase(Ws.prototype);

/** Tag and text of a value. */
function tagged(data) {
    if (typeof data === "symbol") {
        throw new TypeError(`Ws: ${String(data)} can't be sent, a Symbol has no text; send its description`);
    }
    if (isNumber(data)) return "1;" + data.toString();
    if (typeof data === "boolean") return "2;" + data.toString();
    if (typeof data === "string") return "0;" + data;
    if (Object.prototype.toString.call(data) === "[object String]") return "0;" + data.toString();
    if (typeof data === "object") return "4;" + JSON.stringify(data);
    return "0;"; // nothing, or a function
}

function isNumber(data) {
    if (typeof data === "bigint") return true;
    try {
        return !isNaN(data - 0) && data !== null && data !== "" && data !== false;
    } catch {
        return false; // an object that has no primitive value
    }
}

/** Calls all of them: one that throws is reported as an uncaught error is, and does not stop the others. */
function fire(listeners, ...values) {
    for (const listener of [...listeners]) {
        try {
            listener(...values);
        } catch (error) {
            report(error);
        }
    }
}

/** What waits must not change while it waits; send() copies too. */
function snapshot(message) {
    if (ArrayBuffer.isView(message)) {
        return message.buffer.slice(message.byteOffset, message.byteOffset + message.byteLength);
    }
    return isArrayBuffer(message) ? message.slice(0) : message;
}
