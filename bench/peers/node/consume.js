// RocketMQ to Kafka by the official Node.js SDK and kafkajs: consume.js ENDPOINT TOPIC BROKERS KAFKA_TOPIC WORKERS.
'use strict';

const { MQClient } = require('@aliyunmq/mq-http-sdk');
const { Kafka, Partitioners } = require('kafkajs');

const [endpoint, topic, brokers, kafkaTopic, workers] = process.argv.slice(2);

async function consume(consumer, producer) {
  for (;;) {
    const { body } = await consumer.consumeMessage(16, 30);
    // One batch is one call: it is confirmed, or fails, as a whole.
    const messages = body.map((message) => ({ key: message.MessageId, value: message.MessageBody }));
    await producer.send({ topic: kafkaTopic, acks: -1, messages });
    await consumer.ackMessage(body.map((message) => message.ReceiptHandle));
  }
}

async function main() {
  const producer = new Kafka({ brokers: brokers.split(',') }).producer({
    createPartitioner: Partitioners.DefaultPartitioner,
  });
  await producer.connect();
  const client = new MQClient(endpoint, 'AKID', 'SECRET');
  const consumer = client.getConsumer('MQ_INST_1', topic, 'GID_bench');
  await Promise.all(Array.from({ length: Number(workers) }, () => consume(consumer, producer)));
}

main();
