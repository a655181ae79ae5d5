// Arke's WebSocket client: handlers get values. Made from client-js/src; BSL-1.0.
var Ws = (function () {
"use strict";

// The client, but for how values travel: that is a codec's matter (raw.js, values.js).
//
//   message = event | native
//   event   = prefix name ";" tag ";" data         in a text message
//   tag     = "0" text | "1" number | "2" boolean | "3" bytes | "4" JSON
//   data    = the rest, as it is; may hold ";"     a name may not, there is no escape
//   native  = everything else
//
// A codec is { binaryType, encode(data) -> [tag, text], decode(tag, text) -> value, native(data) -> value }.

const defaultPrefix = "iris-websocket-message:";
const defaultMaxQueue = 1024;

const states = { connecting: 0, open: 1 };

class Core {
    #codec;
    #prefix;
    #maxQueue;
    #queue = [];
    #onConnect = [];
    #onDisconnect = [];
    #onMessage = [];
    #onEvent = new Map(); // no plain object: events named "__proto__" or "constructor" are as good as any

    constructor(codec, endpoint, protocols, options) {
        const { WebSocket = globalThis.WebSocket, prefix = defaultPrefix, maxQueue = defaultMaxQueue } = options ?? {};
        if (!WebSocket) {
            throw new Error("Ws: there is no WebSocket here; pass one: new Ws(endpoint, protocols, { WebSocket })");
        }
        this.#codec = codec;
        this.#prefix = prefix;
        this.#maxQueue = maxQueue;

        const url = absolute(endpoint);
        const conn = protocols?.length > 0 ? new WebSocket(url, protocols) : new WebSocket(url);
        if (codec.binaryType) conn.binaryType = codec.binaryType;
        conn.onopen = () => this.#opened();
        conn.onmessage = event => this.#received(event.data);
        conn.onerror = () => {}; // a close with its code always follows; Node's "ws" throws where nobody listens
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

    /** Calls `listener(value)` for each event of that name, in the order in which listeners were added. */
    On(event, listener) {
        checkName(event);
        callable(listener, "On");
        if (!this.#onEvent.has(event)) this.#onEvent.set(event, []);
        this.#onEvent.get(event).push(listener);
    }

    /** Sends an event. Before the connection is open it waits, in order; after the end it is dropped and false returned. */
    Emit(event, data) {
        checkName(event);
        const [tag, text] = this.#codec.encode(data);
        return this.#send(this.#prefix + event + ";" + tag + ";" + text);
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
        const event = typeof data === "string" ? parse(data, this.#prefix) : null;
        if (!event) return fire(this.#onMessage, this.#codec.native(data));
        const listeners = this.#onEvent.get(event.name);
        if (listeners) fire(listeners, this.#codec.decode(event.tag, event.text));
    }
}

// The names of 2016, and what JavaScript writes today.
for (const name of ["OnConnect", "OnDisconnect", "OnMessage", "On", "Emit", "EmitMessage", "Disconnect"]) {
    const camel = name[0].toLowerCase() + name.slice(1);
    Object.defineProperty(Core.prototype, camel, { value: Core.prototype[name], writable: true, configurable: true });
}

/** A text message as { name, tag, text }, or null when it is no event; a broken one counts as native, as in 2016. */
function parse(message, prefix) {
    if (!message.startsWith(prefix)) return null;
    const nameEnd = message.indexOf(";", prefix.length);
    if (nameEnd <= prefix.length) return null; // none, or an empty name
    const tagEnd = message.indexOf(";", nameEnd + 1);
    if (tagEnd !== nameEnd + 2) return null;
    return { name: message.slice(prefix.length, nameEnd), tag: message[nameEnd + 1], text: message.slice(tagEnd + 1) };
}

/**
 * The URL of an endpoint: "host:8080/chat" gets the scheme that it lacks, as in 2016; a path alone is the page's own host.
 * A real scheme is looked for. 2016 looked for "ws" anywhere, and so took "news.example/chat" for a URL.
 */
function absolute(endpoint) {
    endpoint = String(endpoint);
    if (/^wss?:\/\//i.test(endpoint)) return endpoint;
    if (/^https?:\/\//i.test(endpoint)) return "ws" + endpoint.slice(4);
    const { host, protocol } = globalThis.location ?? {};
    if (endpoint.startsWith("/") && host) return (protocol === "https:" ? "wss://" : "ws://") + host + endpoint;
    return "ws://" + endpoint;
}

function checkName(event) {
    if (typeof event !== "string" || event === "") {
        throw new TypeError(`Ws: an event needs a name, and ${describe(event)} is none; use a string that is not empty`);
    }
    if (event.includes(";")) {
        throw new TypeError(`Ws: the event name ${describe(event)} has a ";", which ends a name on the wire; ` +
            "use another character, or put that part into the data");
    }
}

function callable(listener, method) {
    if (typeof listener !== "function") {
        throw new TypeError(`Ws: ${method} needs a function to call, and ${describe(listener)} is none`);
    }
    return listener;
}

function describe(value) {
    return typeof value === "string" ? JSON.stringify(value) : String(value);
}

/** Calls all of them: one that throws is reported as an uncaught error is, and does not stop the others. */
function fire(listeners, ...values) {
    for (const listener of [...listeners]) {
        try {
            listener(...values);
        } catch (error) {
            if (typeof reportError === "function") reportError(error);
            else console.error(error);
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

/** Also for a buffer of another frame or realm, which is no instance of our ArrayBuffer. */
function isArrayBuffer(value) {
    return Object.prototype.toString.call(value) === "[object ArrayBuffer]";
}

// Ws with values: a string arrives as a string, a number as a number, an object as an object.

const number = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i;
const integer = /^[+-]?\d+$/;
const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

function encodeNumber(data) {
    if (!Number.isFinite(data)) {
        throw new TypeError(`Ws: ${data} can't be sent as a number; send a string, or null`);
    }
    return ["1", String(data)];
}

function encodeBytes(data) {
    try {
        return ["3", utf8.decode(data)];
    } catch {
        throw new TypeError("Ws: these bytes are not UTF-8, and an event travels as text; " +
            "send them by EmitMessage, or as a string in base64");
    }
}

function encodeObject(data) {
    if (isArrayBuffer(data) || ArrayBuffer.isView(data)) return encodeBytes(data);
    const text = JSON.stringify(data);
    if (text === undefined) throw new TypeError("Ws: this object's toJSON returns nothing that JSON has; return a value");
    return ["4", text];
}

/** The number that a text says, as a BigInt where a Number would lose digits, or undefined. */
function decodeNumber(text) {
    text = text.trim();
    if (!number.test(text)) return undefined;
    const value = Number(text);
    if (integer.test(text) && !Number.isSafeInteger(value)) return BigInt(text.replace("+", ""));
    return Number.isFinite(value) ? value : undefined;
}

function decodeBoolean(text) {
    text = text.trim();
    return text === "true" ? true : text === "false" ? false : undefined;
}

function decodeJson(text) {
    try {
        return JSON.parse(text);
    } catch {
        return undefined;
    }
}

const codec = {
    binaryType: "arraybuffer",
    encode(data) {
        switch (typeof data) {
            case "string": return ["0", data];
            case "number": return encodeNumber(data);
            case "bigint": return ["1", String(data)];
            case "boolean": return ["2", String(data)];
            case "undefined": return ["0", ""];
            case "object": return encodeObject(data);
            default: throw new TypeError(`Ws: a ${typeof data} can't be sent; send a string, a number or an object`);
        }
    },
    decode(tag, text) {
        switch (tag) { // what does not read as its tag says is handed over as the text it is
            case "1": return decodeNumber(text) ?? text;
            case "2": return decodeBoolean(text) ?? text;
            case "3": return new TextEncoder().encode(text);
            case "4": { // null is a value too
                const value = decodeJson(text);
                return value === undefined ? text : value;
            }
            default: return text;
        }
    },
    native: data => isArrayBuffer(data) ? new Uint8Array(data) : data,
};

class Ws extends Core {
    constructor(endpoint, protocols, options) {
        super(codec, endpoint, protocols, options);
    }
}

return Ws;
})();
