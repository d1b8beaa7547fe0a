import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import org.apache.rocketmq.client.consumer.DefaultMQPullConsumer;
import org.apache.rocketmq.client.consumer.PullResult;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.selector.SelectMessageQueueByHash;
import org.apache.rocketmq.common.compression.CompressionType;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;

/**
 * `read NAMESRV TOPIC` prints what a topic holds, `write NAMESRV TOPIC` what it wrote into queue 0: one line a message. `place NAMESRV TOPIC`
 * writes messages that have nothing but a key to where the client's own selector puts them.
 */
public final class RocketMqMessages {
    public static void main(String[] args) throws Exception {
        if (args[0].equals("read")) {
            read(args[1], args[2]);
        } else if (args[0].equals("place")) {
            place(args[1], args[2]);
        } else {
            write(args[1], args[2]);
        }
        System.exit(0);
    }

    @SuppressWarnings("deprecation")
    private static void read(String namesrv, String topic) throws Exception {
        DefaultMQPullConsumer consumer = new DefaultMQPullConsumer("native-reader");
        consumer.setNamesrvAddr(namesrv);
        consumer.start();
        List<MessageQueue> queues = new ArrayList<>(consumer.fetchSubscribeMessageQueues(topic));
        queues.sort(Comparator.comparingInt(MessageQueue::getQueueId));
        for (MessageQueue queue : queues) {
            long offset = consumer.minOffset(queue);
            long end = consumer.maxOffset(queue);
            while (offset < end) {
                PullResult result = consumer.pull(queue, "*", offset, 32);
                offset = result.getNextBeginOffset();
                for (MessageExt message : result.getMsgFoundList() == null ? List.<MessageExt>of() : result.getMsgFoundList()) {
                    line(queue.getQueueId(), message, message.getBornTimestamp()).print();
                }
            }
        }
    }

    private static void place(String namesrv, String topic) throws Exception {
        DefaultMQProducer producer = new DefaultMQProducer("native-place");
        producer.setNamesrvAddr(namesrv);
        producer.start();
        for (byte[] key : Line.keys()) {
            if (Line.isText(key)) {
                String text = new String(key, java.nio.charset.StandardCharsets.UTF_8);
                Message message = new Message(topic, new byte[] {0});
                message.setKeys(text);
                producer.send(message, new SelectMessageQueueByHash(), text);
            }
        }
        producer.shutdown();
    }

    private static void write(String namesrv, String topic) throws Exception {
        for (CompressionType kind : CompressionType.values()) {
            System.setProperty("rocketmq.message.compressType", kind.name());
            DefaultMQProducer producer = new DefaultMQProducer("native-" + kind.name());
            producer.setNamesrvAddr(namesrv);
            producer.setCompressMsgBodyOverHowmuch(2_000);
            producer.setCompressType(kind);
            producer.start();
            MessageQueue queue = producer.fetchPublishMessageQueues(topic).stream().filter(q -> q.getQueueId() == 0).findFirst().orElseThrow();
            List<Message> batch = new ArrayList<>();
            for (int at = 0; at < 12; at++) {
                Message message = message(topic, at);
                long before = System.currentTimeMillis();
                producer.send(message, queue);
                // What the client added to it is part of it.
                line(0, message, before).print();
                batch.add(message(topic, at));
            }
            long before = System.currentTimeMillis();
            producer.send(batch, queue);
            for (Message message : batch) {
                line(0, message, before).print();
            }
            producer.shutdown();
        }
    }

    private static Message message(String topic, int at) {
        byte[] body = at % 3 == 0 ? Line.utf8("x".repeat(5_000)) : new byte[] {0, (byte) 0x80, (byte) at};
        Message message = new Message(topic, body);
        if (at % 4 > 0) {
            message.setKeys(at % 4 == 1 ? "order-" + at : "two keys");
        }
        if (at % 4 > 1) {
            message.setTags("red");
        }
        if (at % 5 > 1) {
            message.putUserProperty("trace", "7f3a");
            message.putUserProperty("名前", "値 =;|");
        }
        return message;
    }

    private static Line line(int queue, Message message, long born) {
        Map<String, String> properties = new TreeMap<>(message.getProperties());
        byte[] body = message.getBody();
        return new Line().number("partition", queue).text("key", message.getKeys()).text("tag", message.getTags())
                .payload(body).pairs("headers", properties).number("time", born);
    }
}
