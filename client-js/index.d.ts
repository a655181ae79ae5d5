export interface WsOptions {
    /** What an event's text starts with; the server's `event_prefix`. Default: "iris-websocket-message:". */
    prefix?: string;
    /** How many messages may wait for the connection to open. One more: Emit throws a RangeError. Default: 1024. */
    maxQueue?: number;
    /** The WebSocket to use, for Node before 22. Default: the global one. */
    WebSocket?: unknown;
}

export type WsNative = string | ArrayBuffer | ArrayBufferView | Blob;

export class Ws {
    constructor(endpoint: string, protocols?: string | string[] | null, options?: WsOptions);

    /** The WebSocket underneath. */
    readonly conn: WebSocket;

    OnConnect(listener: () => void): void;
    OnDisconnect(listener: (code: number, reason: string) => void): void;
    OnMessage(listener: (message: any) => void): void;
    On(event: string, listener: (value: any) => void): void;
    Emit(event: string, data?: unknown): boolean;
    EmitMessage(message: WsNative): boolean;
    Disconnect(code?: number, reason?: string): void;

    onConnect(listener: () => void): void;
    onDisconnect(listener: (code: number, reason: string) => void): void;
    onMessage(listener: (message: any) => void): void;
    on(event: string, listener: (value: any) => void): void;
    emit(event: string, data?: unknown): boolean;
    emitMessage(message: WsNative): boolean;
    disconnect(code?: number, reason?: string): void;
}
