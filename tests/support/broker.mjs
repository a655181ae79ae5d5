// A real broker for a test, on a free port of the loopback: started, killed, started again on the same port.
import { spawn, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import net from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { freePort } from "./free_port.mjs";
import { within } from "./program.mjs";

const commands = {
    redis: (port, folder) => ["redis-server", "--bind", "127.0.0.1", "--port", port, "--save", "", "--appendonly", "no", "--dir", folder],
    nats: (port) => ["nats-server", "--addr", "127.0.0.1", "--port", port],
};

// Debian's nats-server is where only an administrator looks.
const env = { ...process.env, PATH: `${process.env.PATH}:/usr/sbin:/usr/local/sbin` };

// What we start ends with us, also where we are killed.
const guard = ["setpriv", "--pdeathsig", "KILL"];
const guarded = (command) => (spawnSync(guard[0], [...guard.slice(1), "true"]).status === 0 ? [...guard, ...command] : command);

const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

function accepts(port) {
    return new Promise((resolve) => {
        const socket = net.connect(port, "127.0.0.1");
        socket.on("connect", () => resolve(true)).on("error", () => resolve(false)).on("close", () => resolve(false));
        socket.on("connect", () => socket.destroy());
    });
}

export class Broker {
    #folder = mkdtempSync(join(tmpdir(), "arke-broker-"));
    #child;

    static async start(kind) {
        const broker = new Broker();
        process.on("exit", () => {
            broker.#child?.kill("SIGKILL");
            rmSync(broker.#folder, { recursive: true, force: true });
        });
        broker.kind = kind;
        broker.port = await freePort();
        broker.url = `${kind}://127.0.0.1:${broker.port}`;
        await broker.restart();
        return broker;
    }

    async kill() {
        const child = this.#child;
        const ended = child.exitCode ?? child.signalCode ?? new Promise((resolve) => child.on("exit", resolve));
        child.kill("SIGKILL");
        await within(20_000, `${this.kind} ends`, Promise.resolve(ended));
    }

    async restart() {
        const [program, ...args] = guarded(commands[this.kind](String(this.port), this.#folder));
        this.#child = spawn(program, args, { env, stdio: ["ignore", "pipe", "pipe"] });
        let said = "";
        for (const stream of [this.#child.stdout, this.#child.stderr]) stream.on("data", (data) => { said = (said + data).slice(-2000); });
        this.#child.on("error", (error) => { said += error.message; });
        const end = Date.now() + 20_000;
        while (!(await accepts(this.port))) {
            if (this.#child.exitCode !== null || Date.now() > end) throw new Error(`${this.kind} does not start on port ${this.port}: ${said}`);
            await pause(20);
        }
    }
}
