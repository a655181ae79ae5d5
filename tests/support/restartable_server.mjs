// tests/js/server.cpp as a process that may be killed and started again on the same port, or stopped for a while.
import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { freePort } from "./free_port.mjs";
import { within } from "./program.mjs";

export class RestartableServer {
    counted = []; // by all its lives
    #binary;
    #child;
    #port;

    constructor(binary) {
        this.#binary = binary;
    }

    async start() {
        this.#port ??= await freePort();
        const child = spawn(this.#binary, [String(this.#port)], { stdio: ["ignore", "pipe", "inherit"] });
        this.#child = child;
        process.on("exit", () => child.kill("SIGKILL"));
        this.ended = new Promise(resolve => child.once("exit", resolve));
        const lines = createInterface({ input: child.stdout });
        // All that it has printed has been read.
        this.read = new Promise(resolve => lines.once("close", resolve));
        this.url = await within(20_000, "the server starts", new Promise((resolve, reject) => {
            // A client that comes back may be counted before anybody waits here again: one listener for all lines.
            lines.on("line", line => line.startsWith("count ") ? this.counted.push(line.slice(6)) : resolve(line));
            lines.on("close", () => reject(new Error(`the server ends, on port ${this.#port}`)));
        }));
    }
    async signal(name) {
        this.#child.kill(name);
        if (name === "SIGKILL" || name === "SIGTERM") await within(20_000, "the server ends", Promise.all([this.ended, this.read]));
    }
}
