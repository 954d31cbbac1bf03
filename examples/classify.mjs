// Any language can ask: publish JSON to the work exchange, read JSON from a queue of your own.
//
//   npm install amqplib
//   LMAAS_BROKER_URL=amqp://user:password@localhost:5672/ node examples/classify.mjs

import { randomUUID } from "node:crypto";
import amqp from "amqplib";

const connection = await amqp.connect(process.env.LMAAS_BROKER_URL);
const channel = await connection.createConfirmChannel();
channel.on("return", () => {
  console.error("no worker has ever served this model on this broker");
  process.exit(1);
});
// A queue of this user's, bound to the exchange that workers answer to.
const prefix = process.env.LMAAS_PREFIX ?? "lmaas";
const user = decodeURIComponent(new URL(process.env.LMAAS_BROKER_URL).username) || "guest";
const word = encodeURIComponent(user)
  .replace(/[.~!'()*]/g, (one) => `%${one.charCodeAt(0).toString(16).toUpperCase()}`)
  .replaceAll("%", ":");
const key = `${word}.client.${randomUUID()}`;
const queue = `${prefix}.v1.user.${key}`;
await channel.assertQueue(queue, { exclusive: true, durable: false });
await channel.bindQueue(queue, `${prefix}.v1.results`, key);

const request = {
  model: "sentiment",
  items: [
    { id: "a", text: "What a wonderful film!" },
    { id: "b", text: "" },
    { id: "c", text: "A waste of time." },
  ],
};
channel.publish(`${prefix}.v1.work`, "sentiment.short", Buffer.from(JSON.stringify(request)), {
  contentType: "application/json",
  correlationId: randomUUID(),
  mandatory: true,
  persistent: true,
  replyTo: queue,
  type: "lmaas.request.v1",
  userId: user,
});
await channel.waitForConfirms();

await channel.consume(queue, async (message) => {
  const reply = JSON.parse(message.content);
  // The whole pack was refused, as where only sealed ones are taken.
  if (reply.error) console.error(`${reply.error.code}: ${reply.error.message}`);
  for (const { id, label, score, error } of reply.results) {
    console.log(id, error ? `${error.code}: ${error.message}` : `${label} ${score}`);
  }
  await connection.close();
}, { noAck: true });
