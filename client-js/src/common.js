// What both clients need: endpoints, checks, and reports of what went wrong.

/**
 * The URL of an endpoint: "host:8080/chat" gets the scheme that it lacks, as in 2016; a path alone is the page's own host.
 * A real scheme is looked for. 2016 looked for "ws" anywhere, and so took "news.example/chat" for a URL.
 */
export function absolute(endpoint) {
    endpoint = String(endpoint);
    if (/^wss?:\/\//i.test(endpoint)) return endpoint;
    if (/^https?:\/\//i.test(endpoint)) return "ws" + endpoint.slice(4);
    const { host, protocol } = globalThis.location ?? {};
    if (endpoint.startsWith("/") && host) return (protocol === "https:" ? "wss://" : "ws://") + host + endpoint;
    return "ws://" + endpoint;
}

export function checkName(event) {
    if (typeof event !== "string" || event === "") {
        throw new TypeError(`Ws: an event needs a name, and ${String(event)} is none; use a string that is not empty`);
    }
    return event;
}

/** The protocol of 2016 has no escape. */
export function checkIrisName(event) {
    if (checkName(event).includes(";")) {
        throw new TypeError(`Ws: the event name ${event} has a ";", which ends it; use another character`);
    }
}

export function callable(listener, method) {
    if (typeof listener !== "function") {
        throw new TypeError(`Ws: ${method} needs a function to call, and ${String(listener)} is none`);
    }
    return listener;
}

/** As an uncaught error is. */
export function report(error) {
    if (typeof reportError === "function") reportError(error);
    else console.error(error);
}

/** Also for a buffer of another frame or realm, which is no instance of our ArrayBuffer. */
export function isArrayBuffer(value) {
    return Object.prototype.toString.call(value) === "[object ArrayBuffer]";
}

/** A text message of 2016 as { name, tag, text }, or null when it is no event; a broken one counts as native, as then. */
export function parseIris(message, prefix) {
    if (!message.startsWith(prefix)) return null;
    const nameEnd = message.indexOf(";", prefix.length);
    if (nameEnd <= prefix.length) return null; // none, or an empty name
    const tagEnd = message.indexOf(";", nameEnd + 1);
    if (tagEnd !== nameEnd + 2) return null;
    return { name: message.slice(prefix.length, nameEnd), tag: message[nameEnd + 1], text: message.slice(tagEnd + 1) };
}

/** The names of 2016, and what JavaScript writes today: On and on. */
export function addCamelCase(prototype) {
    for (const name of Object.getOwnPropertyNames(prototype)) {
        if (!/^[A-Z]/.test(name)) continue;
        const camel = name[0].toLowerCase() + name.slice(1);
        Object.defineProperty(prototype, camel, { value: prototype[name], writable: true, configurable: true });
    }
}
