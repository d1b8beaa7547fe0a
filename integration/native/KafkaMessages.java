import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.Headers;
import org.apache.kafka.common.header.internals.RecordHeaders;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/**
 * `read SERVERS TOPIC` prints what a topic holds, `write SERVERS TOPIC` what it wrote: one line a message, in order. `place SERVERS TOPIC`
 * writes messages that have nothing but a key to where the client itself puts them.
 */
public final class KafkaMessages {
    public static void main(String[] args) throws Exception {
        if (args[0].equals("read")) {
            read(args[1], args[2]);
        } else if (args[0].equals("place")) {
            try (KafkaProducer<byte[], byte[]> producer = producer(Map.of("bootstrap.servers", args[1]))) {
                for (byte[] key : Line.keys()) {
                    producer.send(new ProducerRecord<>(args[2], key, new byte[0]));
                }
            }
        } else {
            write(args[1], args[2]);
        }
    }

    private static void read(String servers, String topic) {
        Properties config = new Properties();
        config.put("bootstrap.servers", servers);
        config.put("isolation.level", "read_committed");
        try (KafkaConsumer<byte[], byte[]> consumer =
                new KafkaConsumer<>(config, new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
            List<TopicPartition> partitions = new ArrayList<>();
            consumer.partitionsFor(topic).forEach(p -> partitions.add(new TopicPartition(topic, p.partition())));
            consumer.assign(partitions);
            consumer.seekToBeginning(partitions);
            Map<TopicPartition, Long> ends = consumer.endOffsets(partitions);
            while (partitions.stream().anyMatch(p -> consumer.position(p) < ends.get(p))) {
                for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofSeconds(1))) {
                    line(record.partition(), record.key(), record.value(), record.headers(), record.timestamp()).print();
                }
            }
        }
    }

    private static void write(String servers, String topic) throws Exception {
        long time = System.currentTimeMillis();
        for (String compression : new String[] {"none", "gzip", "snappy", "lz4", "zstd"}) {
            Map<String, Object> config = new HashMap<>();
            config.put("bootstrap.servers", servers);
            config.put("compression.type", compression);
            config.put("linger.ms", 50);
            try (KafkaProducer<byte[], byte[]> producer = producer(config)) {
                for (int at = 0; at < 12; at++) {
                    send(producer, topic, at, time++);
                }
            }
        }
        Map<String, Object> config = new HashMap<>();
        config.put("bootstrap.servers", servers);
        config.put("transactional.id", topic);
        try (KafkaProducer<byte[], byte[]> producer = producer(config)) {
            producer.initTransactions();
            producer.beginTransaction();
            // Never seen by who reads what is committed.
            producer.send(new ProducerRecord<>(topic, 0, time++, Line.utf8("aborted"), Line.utf8("aborted")));
            producer.flush();
            producer.abortTransaction();
            producer.beginTransaction();
            for (int at = 0; at < 12; at++) {
                send(producer, topic, at, time++);
            }
            producer.commitTransaction();
        }
    }

    private static KafkaProducer<byte[], byte[]> producer(Map<String, Object> config) {
        return new KafkaProducer<>(config, new ByteArraySerializer(), new ByteArraySerializer());
    }

    private static void send(KafkaProducer<byte[], byte[]> producer, String topic, int at, long time) {
        byte[] key = at % 4 == 0 ? null : at % 4 == 1 ? new byte[0] : at % 4 == 2 ? new byte[] {(byte) 0xff, 0, 2} : Line.utf8("order-" + at);
        byte[] value = at % 3 == 0 ? Line.utf8("x".repeat(5_000)) : at % 3 == 1 ? (at % 2 == 0 ? null : new byte[0]) : new byte[] {0, (byte) 0x80};
        Headers headers = new RecordHeaders();
        switch (at % 6) {
            case 1 -> headers.add("trace", Line.utf8("7f3a"));
            case 2 -> headers.add("twice", Line.utf8("1")).add("b", Line.utf8("2")).add("twice", Line.utf8("3"));
            case 3 -> headers.add("null", null).add("", new byte[0]).add("raw", new byte[] {(byte) 0xff});
            case 4 -> headers.add("a\0b", Line.utf8("nul")).add("KEYS", Line.utf8("k")).add("a", Line.utf8("a"));
            case 5 -> headers.add("n\0", null).add("n", null);
            default -> { }
        }
        producer.send(new ProducerRecord<>(topic, 0, time, key, value, headers));
        line(0, key, value, headers, time).print();
    }

    private static Line line(int partition, byte[] key, byte[] value, Headers headers, long time) {
        StringBuilder list = new StringBuilder("[");
        for (Header header : headers) {
            Line.add(list, Line.utf8(header.key()), header.value());
        }
        return new Line().number("partition", partition).bytes("key", key).payload(value)
                .raw("headers", list.append("]").toString()).number("time", time);
    }
}
