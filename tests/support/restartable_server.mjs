// tests/js/server.cpp as a process that may be killed and started again on the same port, or stopped for a while.
import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { within } from "./program.mjs";

export class RestartableServer {
    counted = []; // by all its lives
    #binary;
    #child;
    #port = 0;

    constructor(binary) {
        this.#binary = binary;
    }

    async start() {
        const child = spawn(this.#binary, [String(this.#port)], { stdio: ["ignore", "pipe", "inherit"] });
        this.#child = child;
        process.on("exit", () => child.kill("SIGKILL"));
        this.ended = new Promise(resolve => child.once("exit", resolve));
        const lines = createInterface({ input: child.stdout });
        this.url = await within(10_000, "the server starts", new Promise(resolve => lines.once("line", resolve)));
        this.#port = Number(new URL(this.url).port);
        lines.on("line", line => this.counted.push(line.replace("count ", "")));
        // All that it has printed has been read.
        this.read = new Promise(resolve => lines.once("close", resolve));
    }
    async signal(name) {
        this.#child.kill(name);
        if (name === "SIGKILL" || name === "SIGTERM") await within(10_000, "the server ends", Promise.all([this.ended, this.read]));
    }
}
