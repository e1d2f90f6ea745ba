import com.aliyun.mq.http.MQClient;
import com.aliyun.mq.http.MQConsumer;
import com.aliyun.mq.http.model.Message;
import java.util.ArrayList;
import java.util.List;
import java.util.Properties;
import java.util.concurrent.Future;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.serialization.ByteArraySerializer;
import org.apache.kafka.common.serialization.StringSerializer;

/** RocketMQ to Kafka by the official Java SDK and kafka-clients: Consume ENDPOINT TOPIC BROKERS KAFKA_TOPIC WORKERS. */
public final class Consume {
    private Consume() {}

    public static void main(String[] arguments) {
        Properties settings = new Properties();
        settings.put("bootstrap.servers", arguments[2]); // acks=all and idempotence are the defaults
        KafkaProducer<String, byte[]> producer =
                new KafkaProducer<>(settings, new StringSerializer(), new ByteArraySerializer());
        MQClient client = new MQClient(arguments[0], "AKID", "SECRET");
        for (int worker = 0; worker < Integer.parseInt(arguments[4]); worker++) {
            MQConsumer consumer = client.getConsumer("MQ_INST_1", arguments[1], "GID_bench", null);
            new Thread(() -> consume(consumer, producer, arguments[3])).start();
        }
    }

    private static void consume(MQConsumer consumer, KafkaProducer<String, byte[]> producer, String topic) {
        while (true) {
            List<Message> messages = consumer.consumeMessage(16, 30);
            if (messages == null) { // there was none
                continue;
            }
            List<Future<RecordMetadata>> answers = new ArrayList<>(messages.size());
            for (Message message : messages) {
                answers.add(producer.send(
                        new ProducerRecord<>(topic, message.getMessageId(), message.getMessageBodyBytes())));
            }
            List<String> confirmed = new ArrayList<>(messages.size());
            for (int index = 0; index < answers.size(); index++) {
                try {
                    answers.get(index).get();
                    confirmed.add(messages.get(index).getReceiptHandle());
                } catch (Exception problem) { // it comes again when its lease ends
                    System.err.println(problem);
                }
            }
            consumer.ackMessage(confirmed);
        }
    }
}
