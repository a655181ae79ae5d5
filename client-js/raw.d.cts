// The client of 2016: one connection, the protocol of those years, and the raw text of whatever comes.

export interface WsOptions {
    /** What an event's text starts with; the server's `event_prefix`. Default: "iris-websocket-message:". */
    prefix?: string;
    /** How many messages may wait for the connection to open. One more: Emit throws a RangeError. Default: 1024. */
    maxQueue?: number;
    /** The WebSocket to use, for Node before 22. Default: the global one. */
    WebSocket?: new (url: string, protocols?: any) => any;
}

export type WsNative = string | ArrayBuffer | ArrayBufferView | { arrayBuffer(): Promise<ArrayBuffer> };

export class Ws {
    constructor(endpoint: string, protocols?: string | string[] | null, options?: WsOptions);

    /** The WebSocket underneath. */
    readonly conn: any;

    OnConnect(listener: () => void): void;
    OnDisconnect(listener: (code: number, reason: string) => void): void;
    OnMessage(listener: (message: any) => void): void;
    On(event: string, listener: (text: string) => void): void;
    Emit(event: string, data?: unknown): boolean;
    EmitMessage(message: WsNative): boolean;
    Disconnect(code?: number, reason?: string): void;

    onConnect: this["OnConnect"];
    onDisconnect: this["OnDisconnect"];
    onMessage: this["OnMessage"];
    on: this["On"];
    emit: this["Emit"];
    emitMessage: this["EmitMessage"];
    disconnect: this["Disconnect"];
}
