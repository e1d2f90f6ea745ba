import com.aliyun.mq.http.MQClient;
import com.aliyun.mq.http.MQConsumer;
import com.aliyun.mq.http.MQProducer;
import com.aliyun.mq.http.MQTransProducer;
import com.aliyun.mq.http.common.AckMessageException;
import com.aliyun.mq.http.common.ClientException;
import com.aliyun.mq.http.common.ServiceException;
import com.aliyun.mq.http.model.ErrorMessageResult;
import com.aliyun.mq.http.model.Message;
import com.aliyun.mq.http.model.TopicMessage;
import com.google.gson.Gson;
import com.google.gson.GsonBuilder;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** Drives the official Java SDK: one JSON object a line on stdin, one on stdout, as `sdks/drivers.py` describes. */
public final class Driver {
    private static final Gson GSON = new GsonBuilder().serializeNulls().disableHtmlEscaping().create();
    private static final Map<List<String>, MQClient> CLIENTS = new HashMap<>();

    private Driver() {}

    public static void main(String[] arguments) throws IOException {
        PrintStream out = new PrintStream(System.out, false, StandardCharsets.US_ASCII);
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.US_ASCII));
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            JsonObject call = new JsonParser().parse(line).getAsJsonObject();
            Map<String, Object> reply = new HashMap<>();
            try {
                reply.put("returned", perform(call));
            } catch (RuntimeException error) { // all that the SDK throws is unchecked
                reply.put("raised", raised(error));
            }
            out.print(ascii(GSON.toJson(reply)));
            out.print('\n');
            out.flush();
        }
        System.exit(0); // the SDK's threads would hold the process
    }

    private static Object perform(JsonObject call) {
        String op = call.get("op").getAsString();
        switch (op) {
            case "publish":
                return publish(call);
            case "consume":
                return received(consumerOf(call).consumeMessage(batch(call), wait(call)));
            case "consumeOrderly":
                return received(consumerOf(call).consumeMessageOrderly(batch(call), wait(call)));
            case "consumeHalf":
                return received(transProducerOf(call).consumeHalfMessage(batch(call), wait(call)));
            case "ack":
                consumerOf(call).ackMessage(Arrays.asList(GSON.fromJson(call.get("handles"), String[].class)));
                return null;
            case "commit":
                transProducerOf(call).commit(text(call, "handle"));
                return null;
            case "rollback":
                transProducerOf(call).rollback(text(call, "handle"));
                return null;
            default:
                throw new UnsupportedOperationException(op);
        }
    }

    private static Map<String, Object> publish(JsonObject call) {
        TopicMessage message = new TopicMessage(text(call, "body").getBytes(StandardCharsets.UTF_8));
        if (has(call, "tag")) {
            message.setMessageTag(text(call, "tag"));
        }
        if (has(call, "properties")) {
            for (Map.Entry<String, JsonElement> property : call.getAsJsonObject("properties").entrySet()) {
                message.getProperties().put(property.getKey(), property.getValue().getAsString());
            }
        }
        if (has(call, "keys")) {
            message.setMessageKey(text(call, "keys"));
        }
        if (has(call, "shardingKey")) {
            message.setShardingKey(text(call, "shardingKey"));
        }
        if (has(call, "startDeliverTime")) {
            message.setStartDeliverTime(call.get("startDeliverTime").getAsLong());
        }
        MQProducer producer;
        if (has(call, "transCheckImmunityTime")) {
            message.setTransCheckImmunityTime(call.get("transCheckImmunityTime").getAsInt());
            producer = transProducerOf(call);
        } else {
            producer = clientOf(call).getProducer(text(call, "instanceId"), text(call, "topic"));
        }
        TopicMessage published = producer.publishMessage(message);
        Map<String, Object> result = new LinkedHashMap<>();
        result.put("messageId", published.getMessageId());
        result.put("bodyMd5", published.getMessageBodyMD5());
        result.put("receiptHandle", published.getReceiptHandle());
        return result;
    }

    /** The SDK answers an empty topic with null, and so do we. */
    private static List<Map<String, Object>> received(List<Message> messages) {
        if (messages == null) {
            return null;
        }
        List<Map<String, Object>> result = new ArrayList<>();
        for (Message message : messages) {
            Map<String, Object> fields = new LinkedHashMap<>();
            fields.put("messageId", message.getMessageId());
            fields.put("body", new String(message.getMessageBodyBytes(), StandardCharsets.UTF_8));
            fields.put("bodyMd5", message.getMessageBodyMD5());
            fields.put("receiptHandle", message.getReceiptHandle());
            fields.put("publishTime", message.getPublishTime());
            fields.put("firstConsumeTime", message.getFirstConsumeTime());
            fields.put("nextConsumeTime", message.getNextConsumeTime());
            fields.put("consumedTimes", message.getConsumedTimes());
            fields.put("tag", message.getMessageTag());
            fields.put("keys", message.getMessageKey());
            fields.put("shardingKey", message.getShardingKey());
            fields.put("properties", message.getProperties());
            result.add(fields);
        }
        return result;
    }

    private static Map<String, Object> raised(RuntimeException error) {
        String code = null;
        String requestId = null;
        List<Map<String, String>> items = null;
        if (error instanceof ServiceException) {
            code = ((ServiceException) error).getErrorCode();
            requestId = ((ServiceException) error).getRequestId();
        } else if (error instanceof ClientException) {
            code = ((ClientException) error).getErrorCode();
            requestId = ((ClientException) error).getRequestId();
        }
        if (error instanceof AckMessageException) {
            items = new ArrayList<>();
            for (Map.Entry<String, ErrorMessageResult> entry :
                    ((AckMessageException) error).getErrorMessages().entrySet()) {
                Map<String, String> item = new LinkedHashMap<>();
                item.put("receiptHandle", entry.getKey());
                item.put("code", entry.getValue().getErrorCode());
                item.put("message", entry.getValue().getErrorMessage());
                items.add(item);
            }
        }
        Map<String, Object> result = new LinkedHashMap<>();
        result.put("type", error.getClass().getSimpleName());
        result.put("code", code);
        result.put("message", String.valueOf(error.getMessage()));
        result.put("requestId", requestId);
        result.put("items", items);
        return result;
    }

    private static MQClient clientOf(JsonObject call) {
        List<String> account =
                Arrays.asList(
                        text(call, "endpoint"),
                        text(call, "accessKeyId"),
                        text(call, "accessKeySecret"),
                        text(call, "securityToken"));
        return CLIENTS.computeIfAbsent(
                account, key -> new MQClient(key.get(0), key.get(1), key.get(2), key.get(3)));
    }

    private static MQConsumer consumerOf(JsonObject call) {
        return clientOf(call)
                .getConsumer(text(call, "instanceId"), text(call, "topic"), text(call, "group"), text(call, "tag"));
    }

    private static MQTransProducer transProducerOf(JsonObject call) {
        return clientOf(call).getTransProducer(text(call, "instanceId"), text(call, "topic"), text(call, "group"));
    }

    private static int batch(JsonObject call) {
        return has(call, "batch") ? call.get("batch").getAsInt() : 16;
    }

    /** The SDK sends a wait only when it is above zero. */
    private static int wait(JsonObject call) {
        return has(call, "wait") ? call.get("wait").getAsInt() : 0;
    }

    private static boolean has(JsonObject call, String name) {
        return call.has(name) && !call.get(name).isJsonNull();
    }

    private static String text(JsonObject call, String name) {
        return has(call, name) ? call.get(name).getAsString() : null;
    }

    private static String ascii(String json) {
        StringBuilder result = new StringBuilder(json.length());
        for (int index = 0; index < json.length(); index++) {
            char unit = json.charAt(index);
            if (unit < 0x7f) {
                result.append(unit);
            } else {
                result.append(String.format("\\u%04x", (int) unit));
            }
        }
        return result.toString();
    }
}
