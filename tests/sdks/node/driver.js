// Drives the official Node.js SDK: one JSON object a line on stdin, one on stdout, as `sdks/drivers.py` describes.
'use strict';

const readline = require('readline');
const { MQClient, MessageProperties } = require('@aliyunmq/mq-http-sdk');

const clients = new Map();

function clientOf(call) {
  const account = [call.endpoint, call.accessKeyId, call.accessKeySecret, call.securityToken];
  const name = JSON.stringify(account);
  if (!clients.has(name)) clients.set(name, new MQClient(...account));
  return clients.get(name);
}

function consumerOf(call) {
  return clientOf(call).getConsumer(call.instanceId, call.topic, call.group, call.tag);
}

function transProducerOf(call) {
  return clientOf(call).getTransProducer(call.instanceId, call.topic, call.group);
}

async function publish(call) {
  const properties = new MessageProperties();
  for (const [name, value] of Object.entries(call.properties || {})) properties.putProperty(name, value);
  properties.messageKey(call.keys);
  properties.shardingKey(call.shardingKey);
  properties.startDeliverTime(call.startDeliverTime);
  properties.transCheckImmunityTime(call.transCheckImmunityTime);
  const producer = call.transCheckImmunityTime === undefined
    ? clientOf(call).getProducer(call.instanceId, call.topic)
    : transProducerOf(call);
  const { body } = await producer.publishMessage(call.body, call.tag, properties);
  return { messageId: body.MessageId, bodyMd5: body.MessageBodyMD5, receiptHandle: body.ReceiptHandle || null };
}

function received(message) {
  return {
    messageId: message.MessageId,
    body: message.MessageBody,
    bodyMd5: message.MessageBodyMD5,
    receiptHandle: message.ReceiptHandle,
    publishTime: message.PublishTime,
    firstConsumeTime: message.FirstConsumeTime,
    nextConsumeTime: message.NextConsumeTime,
    consumedTimes: message.ConsumedTimes,
    tag: message.MessageTag || null,
    keys: message.MessageKey || null,
    shardingKey: message.ShardingKey || null,
    properties: message.Properties,
  };
}

// A failed ack is not thrown by this SDK: it is an answer with code 404 and a body.
function acked({ code, body }) {
  if (body === undefined) return { code, items: null };
  const items = body.map((item) => ({
    receiptHandle: item.ReceiptHandle, code: item.ErrorCode, message: item.ErrorMessage,
  }));
  return { code, items };
}

async function perform(call) {
  const batch = call.batch === undefined ? 16 : call.batch;
  switch (call.op) {
    case 'publish': return publish(call);
    case 'consume': return (await consumerOf(call).consumeMessage(batch, call.wait)).body.map(received);
    case 'consumeOrderly': return (await consumerOf(call).consumeMessageOrderly(batch, call.wait)).body.map(received);
    case 'consumeHalf': return (await transProducerOf(call).consumeHalfMessage(batch, call.wait)).body.map(received);
    case 'ack': return acked(await consumerOf(call).ackMessage(call.handles));
    case 'commit': return acked(await transProducerOf(call).commit(call.handle));
    case 'rollback': return acked(await transProducerOf(call).rollback(call.handle));
    default: throw new Error(`no such operation: ${call.op}`);
  }
}

function raised(error) {
  return {
    type: error.name,
    code: error.Code || null,
    message: error.message,
    requestId: error.RequestId || null,
    items: null,
  };
}

function write(reply) {
  const ascii = JSON.stringify(reply)
    .replace(/[\u007f-\uffff]/g, (unit) => '\\u' + unit.charCodeAt(0).toString(16).padStart(4, '0'));
  process.stdout.write(ascii + '\n');
}

async function main() {
  for await (const line of readline.createInterface({ input: process.stdin })) {
    try {
      write({ returned: await perform(JSON.parse(line)) });
    } catch (error) {
      write({ raised: raised(error) });
    }
  }
  process.exit(0); // connections that the SDK keeps alive would hold the process
}

main();
