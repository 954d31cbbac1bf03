// As classify.mjs, with sealed payloads: docs/security.md has the format.
//
//   npm install amqplib
//   LMAAS_BROKER_URL=amqp://... LMAAS_PAYLOAD_KEYS=payload.keys node examples/sealed.mjs

import { createCipheriv, createDecipheriv, hkdfSync, randomBytes, randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const ENCODING = "lmaas.sealed.v1";
const FORMAT = Buffer.from([1]);
const SALT = randomBytes(16);
let sent = 0n;

// The keys of a file by their ids; the first one seals.
export function keysOf(text) {
  const lines = text.split("\n").map((line) => line.trim());
  return new Map(lines.filter((line) => line && !line.startsWith("#")).map((line) => {
    const [id, secret] = line.split(/\s+/);
    return [id, Buffer.from(secret, "base64")];
  }));
}

const derived = (secret, salt) =>
  Buffer.from(hkdfSync("sha256", secret, salt, `${ENCODING} payload`, 32));

// FORMAT, and each text after its length in bytes, as 16 bits.
function associated(id, { direction, model, queue, correlationId, contentType }) {
  const parts = [FORMAT];
  for (const text of [id, direction, model, queue, correlationId, contentType]) {
    const bytes = Buffer.from(text), length = Buffer.alloc(2);
    length.writeUInt16BE(bytes.length);
    parts.push(length, bytes);
  }
  return Buffer.concat(parts);
}

export function seal(body, id, secret, label, salt = SALT, count = sent++) {
  const nonce = Buffer.alloc(12);
  nonce.writeBigUInt64BE(count, 4);
  const cipher = createCipheriv("aes-256-gcm", derived(secret, salt), nonce);
  cipher.setAAD(associated(id, label));
  return Buffer.concat([FORMAT, salt, nonce, cipher.update(body), cipher.final(), cipher.getAuthTag()]);
}

// Throws when the body was changed, or made for something else.
export function open(body, id, secret, label) {
  const salt = body.subarray(1, 17), nonce = body.subarray(17, 29);
  const decipher = createDecipheriv("aes-256-gcm", derived(secret, salt), nonce);
  decipher.setAAD(associated(id, label));
  decipher.setAuthTag(body.subarray(-16));
  return Buffer.concat([decipher.update(body.subarray(29, -16)), decipher.final()]);
}

// A user's name as a part of the names of its queues.
export const wordOf = (user) => encodeURIComponent(user)
  .replace(/[.~!'()*]/g, (one) => `%${one.charCodeAt(0).toString(16).toUpperCase()}`)
  .replaceAll("%", ":");

async function main() {
  const { default: amqp } = await import("amqplib");
  const keys = keysOf(readFileSync(process.env.LMAAS_PAYLOAD_KEYS, "utf8"));
  const [[id, secret]] = keys;
  const prefix = process.env.LMAAS_PREFIX ?? "lmaas";
  const connection = await amqp.connect(process.env.LMAAS_BROKER_URL);
  const channel = await connection.createConfirmChannel();
  channel.on("return", () => {
    console.error("no worker has ever served this model on this broker");
    process.exit(1);
  });
  // A queue of this user's, bound to the exchange that workers answer to.
  const user = decodeURIComponent(new URL(process.env.LMAAS_BROKER_URL).username) || "guest";
  const routed = `${wordOf(user)}.client.${randomUUID()}`;
  const queue = `${prefix}.v1.user.${routed}`;
  await channel.assertQueue(queue, { exclusive: true, durable: false });
  await channel.bindQueue(queue, `${prefix}.v1.results`, routed);

  const request = { model: "sentiment", items: [{ id: "a", text: "What a wonderful film!" }] };
  const label = {
    direction: "request",
    model: request.model,
    queue,
    correlationId: randomUUID(),
    contentType: "application/json",
  };
  const body = seal(Buffer.from(JSON.stringify(request)), id, secret, label);
  channel.publish(`${prefix}.v1.work`, "sentiment.short", body, {
    contentEncoding: ENCODING,
    contentType: label.contentType,
    correlationId: label.correlationId,
    headers: { "lmaas-key": id },
    mandatory: true,
    persistent: true,
    replyTo: queue,
    type: "lmaas.request.v1",
    userId: user,
  });
  await channel.waitForConfirms();

  await channel.consume(queue, async ({ content, properties }) => {
    // Only a worker that cannot open the request answers without a seal.
    const sealed = properties.contentEncoding === ENCODING;
    const key = properties.headers["lmaas-key"];
    const opened = sealed
      ? open(content, key, keys.get(key), { ...label, direction: "reply" })
      : content;
    const { results, error } = JSON.parse(opened);
    if (error) console.log(`${error.code}: ${error.message}`);
    if (sealed) for (const { id, label, score } of results) console.log(id, label, score);
    await connection.close();
  }, { noAck: true });
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) await main();
