// Writes with Pulsar's own client: URL TOPIC HOW COUNT SIZE. Values begin with their number, 8 bytes, and go on with what
// compresses. HOW: compression types separated by commas, COUNT messages in batches of each; `keyed`: batches by key, one of
// ten keys a message; `chunked`: chunks of 100,000 bytes.
import java.nio.ByteBuffer;
import java.util.concurrent.TimeUnit;
import org.apache.pulsar.client.api.BatcherBuilder;
import org.apache.pulsar.client.api.CompressionType;
import org.apache.pulsar.client.api.Producer;
import org.apache.pulsar.client.api.ProducerBuilder;
import org.apache.pulsar.client.api.PulsarClient;

public class PulsarProduce {
    public static void main(String[] args) throws Exception {
        String how = args[2];
        int count = Integer.parseInt(args[3]);
        int size = Integer.parseInt(args[4]);
        long number = 0;
        try (PulsarClient client = PulsarClient.builder().serviceUrl(args[0]).build()) {
            for (String one : how.split(",")) {
                ProducerBuilder<byte[]> builder = client.newProducer().topic(args[1]).blockIfQueueFull(true);
                if (one.equals("chunked")) {
                    builder.enableBatching(false).enableChunking(true).chunkMaxMessageSize(100_000);
                } else {
                    builder.enableBatching(true).batchingMaxMessages(50).batchingMaxPublishDelay(100, TimeUnit.MILLISECONDS);
                }
                if (one.equals("keyed")) {
                    builder.batcherBuilder(BatcherBuilder.KEY_BASED);
                } else if (!one.equals("chunked")) {
                    builder.compressionType(CompressionType.valueOf(one));
                }
                try (Producer<byte[]> producer = builder.create()) {
                    for (int i = 0; i < count; i++, number++) {
                        ByteBuffer value = ByteBuffer.allocate(size).putLong(number);
                        while (value.hasRemaining()) {
                            value.put((byte) (value.position() / 7));
                        }
                        producer.newMessage().key("key-" + number % 10).value(value.array()).eventTime(1 + number)
                                .property("number", Long.toString(number)).sendAsync();
                    }
                    producer.flush();
                }
            }
        }
        System.exit(0);
    }
}
