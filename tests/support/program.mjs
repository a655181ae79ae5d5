// Starts a program of ours for a test, tells where it listens, and ends it by its process id.
import { spawn } from "node:child_process";
import { createRequire } from "node:module";
import net from "node:net";

// Where localhost has several addresses, Node gives up all but the last after a quarter of a second.
net.setDefaultAutoSelectFamilyAttemptTimeout?.(10_000);

export const { WebSocket } = createRequire(new URL("../peers/package.json", import.meta.url))("ws");

/** Whatever hangs fails with a sentence instead. */
export function within(milliseconds, what, promise) {
    let timer;
    const late = new Promise((_, reject) => {
        timer = setTimeout(() => reject(new Error(`${what}: nothing within ${milliseconds} ms`)), milliseconds);
    });
    return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

export async function start(binary, ...args) {
    const child = spawn(binary, args, { stdio: ["ignore", "pipe", "inherit"] });
    process.on("exit", () => child.kill("SIGKILL"));
    let printed = "";
    const firstLine = new Promise((resolve, reject) => {
        child.stdout.on("data", (data) => {
            printed += data;
            if (printed.includes("\n")) resolve(printed.split("\n")[0]);
        });
        child.on("exit", (code, signal) => reject(new Error(`${binary} ended (${code ?? signal}) and said: ${printed}`)));
    });
    const ended = new Promise((resolve) => child.on("exit", (code, signal) => resolve(code ?? signal)));
    const line = await within(20_000, `${binary} starts`, firstLine);
    return {
        line,
        pid: child.pid,
        ports: [...line.matchAll(/localhost:(\d+)/g)].map((match) => Number(match[1])),
        /** Sends it a signal, and waits for what it prints then. */
        async signal(name, answer) {
            child.kill(name);
            const end = Date.now() + 10_000;
            while (!printed.includes(answer)) {
                if (Date.now() > end) throw new Error(`after ${name} ${binary} did not say "${answer}", but: ${printed}`);
                await within(10_000, `the answer to ${name}`, new Promise((resolve) => child.stdout.once("data", resolve)));
            }
        },
        /** As by Ctrl+C; the exit code must be 0. */
        async stop() {
            child.kill("SIGINT");
            const code = await within(20_000, `${binary} stops`, ended);
            if (code !== 0) throw new Error(`${binary} ended with ${code}`);
        },
    };
}

/** A client whose messages are waited for one by one. */
export class Client {
    #messages = [];
    #waiting = [];

    constructor(url, protocols, options) {
        this.socket = new WebSocket(url, protocols, options);
        this.opened = new Promise((resolve, reject) => {
            this.socket.on("open", resolve);
            this.socket.on("error", reject);
        });
        this.closed = new Promise((resolve) => {
            this.socket.on("close", (code, reason) => resolve({ code, reason: String(reason) }));
        });
        this.socket.on("message", (data, isBinary) => {
            const message = isBinary ? data : String(data);
            const next = this.#waiting.shift();
            next ? next(message) : this.#messages.push(message);
        });
    }

    static async open(url, protocols) {
        const client = new Client(url, protocols);
        await within(10_000, `connecting to ${url}`, client.opened);
        return client;
    }

    send(data) {
        this.socket.send(data);
    }

    /** An event in the form of 2016. */
    emit(event, tag, data) {
        this.send(`iris-websocket-message:${event};${tag};${data}`);
    }

    next() {
        if (this.#messages.length) return Promise.resolve(this.#messages.shift());
        return within(10_000, "a message", new Promise((resolve) => this.#waiting.push(resolve)));
    }

    /** The next message must be this event; gives its data. */
    async event(name) {
        const message = await this.next();
        const match = /^iris-websocket-message:([^;]*);(\d);([^]*)$/.exec(message);
        if (!match || match[1] !== name) throw new Error(`waited for the event ${name} and got ${message}`);
        return match[3];
    }

    async end() {
        this.socket.close();
        return within(10_000, "the close", this.closed);
    }
}
