import java.util.List;
import java.util.concurrent.TimeUnit;
import org.apache.pulsar.client.api.Message;
import org.apache.pulsar.client.api.MessageId;
import org.apache.pulsar.client.api.Producer;
import org.apache.pulsar.client.api.PulsarClient;
import org.apache.pulsar.client.api.Reader;
import org.apache.pulsar.client.api.Schema;
import org.apache.pulsar.client.api.schema.GenericRecord;
import org.apache.pulsar.client.api.schema.GenericSchema;
import org.apache.pulsar.client.api.schema.RecordSchemaBuilder;
import org.apache.pulsar.client.api.schema.SchemaBuilder;
import org.apache.pulsar.common.schema.KeyValue;
import org.apache.pulsar.common.schema.KeyValueEncodingType;
import org.apache.pulsar.common.schema.SchemaType;

/** `orders | pairs | texts URL TOPIC` writes typed messages, `read URL TOPIC` prints them as whoever does not know their schema sees them. */
public final class PulsarTyped {
    public static void main(String[] args) throws Exception {
        try (PulsarClient client = PulsarClient.builder().serviceUrl(args[1]).build()) {
            switch (args[0]) {
                case "orders" -> orders(client, args[2]);
                case "pairs" -> pairs(client, args[2]);
                case "texts" -> texts(client, args[2]);
                default -> read(client, args[2]);
            }
        }
        System.exit(0);
    }

    private static GenericSchema<GenericRecord> order(boolean noted) {
        RecordSchemaBuilder record = SchemaBuilder.record("Order");
        record.field("name").type(SchemaType.STRING);
        record.field("count").type(SchemaType.INT32);
        if (noted) {
            record.field("note").type(SchemaType.STRING).optional().defaultValue(null);
        }
        return Schema.generic(record.build(SchemaType.AVRO));
    }

    /** Two versions of a schema, in turn, and a message without any in the end. */
    private static void orders(PulsarClient client, String topic) throws Exception {
        List<GenericSchema<GenericRecord>> versions = List.of(order(false), order(true));
        try (Producer<GenericRecord> producer = client.newProducer(versions.get(0)).topic(topic)
                .batchingMaxPublishDelay(50, TimeUnit.MILLISECONDS).create()) {
            for (int at = 0; at < 40; at++) {
                GenericSchema<GenericRecord> schema = versions.get(at / 4 % 2);
                var record = schema.newRecordBuilder().set("name", "order-" + at).set("count", at);
                if (schema == versions.get(1)) {
                    record.set("note", "noted " + at);
                }
                producer.newMessage(schema).key("key-" + at).value(record.build()).eventTime(1 + at).property("at", "" + at).sendAsync();
            }
            producer.flush();
        }
        try (Producer<byte[]> producer = client.newProducer().topic(topic).create()) {
            producer.newMessage().value(new byte[] {1, 2, 3}).eventTime(41).send();
        }
    }

    private static void pairs(PulsarClient client, String topic) throws Exception {
        Schema<KeyValue<GenericRecord, String>> schema = Schema.KeyValue(order(false), Schema.STRING, KeyValueEncodingType.INLINE);
        try (Producer<KeyValue<GenericRecord, String>> producer = client.newProducer(schema).topic(topic).create()) {
            for (int at = 0; at < 3; at++) {
                GenericRecord key = order(false).newRecordBuilder().set("name", "key-" + at).set("count", at).build();
                producer.newMessage().value(new KeyValue<>(key, "value-" + at)).eventTime(1 + at).send();
            }
        }
    }

    private static void texts(PulsarClient client, String topic) throws Exception {
        try (Producer<String> producer = client.newProducer(Schema.STRING).topic(topic).create()) {
            for (int at = 0; at < 3; at++) {
                producer.newMessage().value("text-" + at).eventTime(1 + at).send();
            }
        }
    }

    private static void read(PulsarClient client, String topic) throws Exception {
        for (String partition : client.getPartitionsForTopic(topic).get()) {
            try (Reader<GenericRecord> reader = client.newReader(Schema.AUTO_CONSUME()).topic(partition)
                    .startMessageId(MessageId.earliest).create()) {
                while (reader.hasMessageAvailable()) {
                    Message<GenericRecord> message = reader.readNext(30, TimeUnit.SECONDS);
                    byte[] version = message.getSchemaVersion();
                    Schema<?> schema = message.getReaderSchema().orElse(null);
                    boolean typed = version != null && version.length > 0;
                    Line line = new Line().text("key", message.getKey()).payload(message.getData())
                            .pairs("headers", message.getProperties()).number("time", message.getEventTime()).bytes("version", version);
                    if (typed) {
                        line.text("type", schema.getSchemaInfo().getType().toString())
                                .bytes("definition", schema.getSchemaInfo().getSchema())
                                .text("shown", shown(message.getValue().getNativeObject()));
                    }
                    line.print();
                }
            }
        }
    }

    private static String shown(Object value) {
        if (value instanceof KeyValue<?, ?> pair) {
            return shown(pair.getKey()) + " = " + shown(pair.getValue());
        }
        return value instanceof GenericRecord record ? shown(record.getNativeObject()) : String.valueOf(value);
    }
}
