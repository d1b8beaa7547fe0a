import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.TimeUnit;
import org.apache.pulsar.client.api.CompressionType;
import org.apache.pulsar.client.api.Message;
import org.apache.pulsar.client.api.MessageId;
import org.apache.pulsar.client.api.Producer;
import org.apache.pulsar.client.api.PulsarClient;
import org.apache.pulsar.client.api.Reader;
import org.apache.pulsar.client.api.Schema;
import org.apache.pulsar.client.api.TypedMessageBuilder;

/**
 * `read URL TOPIC` prints what a topic holds, `write URL TOPIC` what it wrote into its only partition: one line a message. `place URL
 * TOPIC` writes messages that have nothing but a key to where the client itself puts them.
 */
public final class PulsarMessages {
    public static void main(String[] args) throws Exception {
        try (PulsarClient client = PulsarClient.builder().serviceUrl(args[1]).build()) {
            if (args[0].equals("read")) {
                read(client, args[2]);
            } else if (args[0].equals("place")) {
                try (Producer<byte[]> producer = client.newProducer(Schema.BYTES).topic(args[2]).create()) {
                    for (byte[] key : Line.keys()) {
                        (Line.isText(key) ? producer.newMessage().key(text(key)) : producer.newMessage().keyBytes(key)).value(new byte[0]).send();
                    }
                }
            } else {
                write(client, args[2]);
            }
        }
        System.exit(0);
    }

    private static void read(PulsarClient client, String topic) throws Exception {
        int number = 0;
        for (String partition : client.getPartitionsForTopic(topic).get()) {
            try (Reader<byte[]> reader = client.newReader(Schema.BYTES).topic(partition).startMessageId(MessageId.earliest).create()) {
                while (reader.hasMessageAvailable()) {
                    Message<byte[]> message = reader.readNext(30, TimeUnit.SECONDS);
                    boolean encoded = message.hasBase64EncodedKey();
                    byte[] key = !message.hasKey() ? null : encoded ? message.getKeyBytes() : Line.utf8(message.getKey());
                    line(number, key, encoded, message.getOrderingKey(), message.getData(), message.getProperties(), message.getEventTime())
                            .number("published", message.getPublishTime()).print();
                }
            }
            number++;
        }
    }

    private static void write(PulsarClient client, String topic) throws Exception {
        CompressionType[] kinds = CompressionType.values();
        for (int kind = 0; kind < 2 * kinds.length; kind++) {
            boolean batched = kind % 2 == 0;
            try (Producer<byte[]> producer = client.newProducer(Schema.BYTES).topic(topic).compressionType(kinds[kind / 2])
                    .enableBatching(batched).batchingMaxPublishDelay(50, TimeUnit.MILLISECONDS).create()) {
                for (int at = 0; at < 12; at++) {
                    send(producer.newMessage(), at, 1_700_000_000_000L + kind * 100 + at);
                }
                producer.flush();
            }
        }
        try (Producer<byte[]> producer = client.newProducer(Schema.BYTES).topic(topic).enableBatching(false).enableChunking(true)
                .chunkMaxMessageSize(10_000).create()) {
            TypedMessageBuilder<byte[]> large = producer.newMessage();
            byte[] value = Line.utf8("0123456789".repeat(5_000));
            large.key("chunked").value(value).eventTime(1).property("trace", "1").send();
            line(0, Line.utf8("chunked"), false, null, value, Map.of("trace", "1"), 1).print();
        }
    }

    private static void send(TypedMessageBuilder<byte[]> message, int at, long time) {
        byte[] key = null;
        boolean encoded = false;
        switch (at % 4) {
            case 1 -> message.key(text(key = Line.utf8("")));
            case 2 -> { message.keyBytes(key = new byte[] {(byte) 0xff, 0, 2}); encoded = true; }
            case 3 -> message.key(text(key = Line.utf8("order-" + at)));
            default -> { }
        }
        byte[] value = at % 3 == 0 ? Line.utf8("x".repeat(5_000)) : at % 3 == 1 ? (at % 2 == 0 ? null : new byte[0]) : new byte[] {0, (byte) 0x80};
        Map<String, String> properties = new TreeMap<>();
        if (at % 5 > 0) {
            properties.put("trace", "7f3a");
            properties.put("KEYS", "k");
        }
        if (at % 5 > 2) {
            properties.put("", "");
            properties.put("a\0b", "x\1y\2z\n");
        }
        byte[] ordering = at % 6 == 5 ? new byte[] {1, (byte) 0xfe} : null;
        if (ordering != null) {
            message.orderingKey(ordering);
        }
        boolean timed = at % 2 == 0;
        if (timed) {
            message.eventTime(time);
        }
        message.properties(properties).value(value).sendAsync();
        line(0, key, encoded, ordering, value, properties, timed ? time : 0).print();
    }

    private static String text(byte[] utf8) {
        return new String(utf8, java.nio.charset.StandardCharsets.UTF_8);
    }

    private static Line line(int partition, byte[] key, boolean encoded, byte[] ordering, byte[] value, Map<String, String> properties, long time) {
        return new Line().number("partition", partition).bytes("key", key).flag("encoded", encoded).bytes("ordering", ordering)
                .payload(value).pairs("headers", properties).number("time", time);
    }
}
