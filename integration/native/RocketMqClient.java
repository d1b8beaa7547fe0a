import java.nio.charset.StandardCharsets;
import java.util.List;
import org.apache.rocketmq.client.consumer.DefaultLitePullConsumer;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.LocalTransactionState;
import org.apache.rocketmq.client.producer.TransactionListener;
import org.apache.rocketmq.client.producer.TransactionMQProducer;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageAccessor;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;

/**
 * RocketMQ's own client, as one program for tests:
 *
 *   send TOPIC MESSAGE...        to queue 0; a MESSAGE is BODY[,NAME=VALUE]..., where keys, tag, group (of FIFO topics), level and
 *                                deliverAt mean the message's own, and any other name is a user property
 *   transact TOPIC MESSAGE...    as half messages: those whose BODY begins with "commit" are committed, others rolled back
 *   read TOPIC GROUP COUNT TAGS  prints COUNT messages, a line each, its fields separated by tabs: body, keys, tag, group, level,
 *                                deliverAt, time of storage
 */
public class RocketMqClient {
    public static void main(String[] args) throws Exception {
        String[] rest = java.util.Arrays.copyOfRange(args, 2, args.length);
        switch (args[0]) {
            case "send" -> send(new DefaultMQProducer("native"), args[1], rest);
            case "transact" -> transact(args[1], rest);
            case "read" -> read(args[1], rest[0], Integer.parseInt(rest[1]), rest[2]);
            default -> throw new IllegalArgumentException(args[0]);
        }
        // Threads of the client's own may still be there.
        System.out.flush();
        Runtime.getRuntime().halt(0);
    }

    static void send(DefaultMQProducer producer, String topic, String[] messages) throws Exception {
        producer.setNamesrvAddr(System.getenv("NAMESRV"));
        producer.start();
        for (String text : messages) {
            Message message = message(topic, text);
            if (producer instanceof TransactionMQProducer transactional) {
                System.out.println(transactional.sendMessageInTransaction(message, null).getLocalTransactionState());
                continue;
            }
            MessageQueue queue = producer.fetchPublishMessageQueues(topic).stream().filter(q -> q.getQueueId() == 0).findFirst().get();
            System.out.println(producer.send(message, queue).getSendStatus());
        }
        producer.shutdown();
    }

    static void transact(String topic, String[] messages) throws Exception {
        TransactionMQProducer producer = new TransactionMQProducer("native-transactions");
        producer.setTransactionListener(new TransactionListener() {
            @Override public LocalTransactionState executeLocalTransaction(Message message, Object argument) {
                boolean commits = new String(message.getBody(), StandardCharsets.UTF_8).startsWith("commit");
                return commits ? LocalTransactionState.COMMIT_MESSAGE : LocalTransactionState.ROLLBACK_MESSAGE;
            }
            @Override public LocalTransactionState checkLocalTransaction(MessageExt message) {
                return executeLocalTransaction(message, null);
            }
        });
        send(producer, topic, messages);
    }

    static Message message(String topic, String text) {
        String[] parts = text.split(",");
        Message message = new Message(topic, parts[0].getBytes(StandardCharsets.UTF_8));
        for (int at = 1; at < parts.length; at++) {
            String[] pair = parts[at].split("=", 2);
            switch (pair[0]) {
                case "keys" -> message.setKeys(pair[1]);
                case "tag" -> message.setTags(pair[1]);
                case "group" -> MessageAccessor.putProperty(message, "__SHARDINGKEY", pair[1]);
                case "level" -> message.setDelayTimeLevel(Integer.parseInt(pair[1]));
                case "deliverAt" -> message.setDeliverTimeMs(Long.parseLong(pair[1]));
                default -> message.putUserProperty(pair[0], pair[1]);
            }
        }
        return message;
    }

    static void read(String topic, String group, int count, String tags) throws Exception {
        DefaultLitePullConsumer consumer = new DefaultLitePullConsumer(group);
        consumer.setNamesrvAddr(System.getenv("NAMESRV"));
        consumer.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        consumer.subscribe(topic, tags);
        consumer.start();
        for (int read = 0; read < count; ) {
            List<MessageExt> messages = consumer.poll(1000);
            for (MessageExt message : messages) {
                System.out.println(String.join("\t", new String(message.getBody(), StandardCharsets.UTF_8), "" + message.getKeys(),
                    "" + message.getTags(), "" + message.getProperty("__SHARDINGKEY"), "" + message.getDelayTimeLevel(),
                    "" + message.getDeliverTimeMs(), "" + message.getStoreTimestamp()));
            }
            read += messages.size();
        }
        System.out.flush();
    }
}
