// The web kit: everything a page needs to play. docs/WEB.md shows how it is used.

export { AccountError, byName, front, guest } from "./account.js";
export { Decoder, FrameError, frame } from "./frames.js";
export { enums } from "./messages.js";
export { ProtoError, decode, encode, knows } from "./proto.js";
export { Refused, Session, SessionOver } from "./session.js";
