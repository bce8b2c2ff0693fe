import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.Properties;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.KeyValue;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Grouped;
import org.apache.kafka.streams.kstream.KStream;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.kstream.Suppressed;
import org.apache.kafka.streams.kstream.TimeWindows;
import org.apache.kafka.streams.processor.PunctuationType;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.KeyValueIterator;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.Stores;
import org.apache.kafka.streams.state.WindowStore;
import org.apache.kafka.streams.state.WindowStoreIterator;

/** The two jobs as Kafka Streams does them: servers, job, input, output, application.id, folder. */
public class StreamsJob {
    static final ObjectMapper JSON = new ObjectMapper();
    static final Duration TTL = Duration.ofHours(1);

    static JsonNode parse(byte[] value) {
        try {
            return JSON.readTree(value);
        } catch (java.io.IOException e) {
            throw new java.io.UncheckedIOException(e);
        }
    }

    /** Lets the first record of an id through. Ids are forgotten once an hour of event time, which is as seldom as can be. */
    static class FirstByKey implements Processor<String, byte[], String, byte[]> {
        ProcessorContext<String, byte[]> context;
        KeyValueStore<String, Long> seen;

        @Override
        public void init(ProcessorContext<String, byte[]> context) {
            this.context = context;
            seen = context.getStateStore("seen");
            context.schedule(TTL, PunctuationType.STREAM_TIME, this::forget);
        }

        void forget(long now) {
            try (KeyValueIterator<String, Long> all = seen.all()) {
                while (all.hasNext()) {
                    KeyValue<String, Long> known = all.next();
                    if (known.value + TTL.toMillis() <= now) {
                        seen.delete(known.key);
                    }
                }
            }
        }

        @Override
        public void process(Record<String, byte[]> record) {
            String id = parse(record.value()).get("id").textValue();
            Long known = seen.get(id);
            if (known != null && Math.abs(record.timestamp() - known) < TTL.toMillis()) {
                return;
            }
            seen.put(id, record.timestamp());
            context.forward(record);
        }
    }

    /** Lets the first record of an id through, as Confluent's example does it. */
    static class First implements Processor<String, byte[], String, byte[]> {
        ProcessorContext<String, byte[]> context;
        WindowStore<String, Long> seen;

        @Override
        public void init(ProcessorContext<String, byte[]> context) {
            this.context = context;
            seen = context.getStateStore("seen");
        }

        @Override
        public void process(Record<String, byte[]> record) {
            String id = parse(record.value()).get("id").textValue();
            long time = record.timestamp();
            long ttl = TTL.toMillis();
            try (WindowStoreIterator<Long> known = seen.fetch(id, time - ttl + 1, time + ttl - 1)) {
                if (known.hasNext()) {
                    return;
                }
            }
            seen.put(id, time, time);
            context.forward(record);
        }
    }

    static byte[] add(byte[] sums, long amount) {
        ByteBuffer old = ByteBuffer.wrap(sums);
        return ByteBuffer.allocate(16).putLong(old.getLong() + 1).putLong(old.getLong() + amount).array();
    }

    static byte[] result(String key, long start, long end, byte[] sums) {
        ByteBuffer value = ByteBuffer.wrap(sums);
        return ("{\"key\":\"" + key + "\",\"window_start\":" + start + ",\"window_end\":" + end + ",\"n\":" + value.getLong()
                + ",\"total\":" + value.getLong() + "}").getBytes(StandardCharsets.UTF_8);
    }

    public static void main(String[] args) {
        Properties config = new Properties();
        config.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, args[0]);
        config.put(StreamsConfig.APPLICATION_ID_CONFIG, args[4]);
        config.put(StreamsConfig.STATE_DIR_CONFIG, args[5]);
        config.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.EXACTLY_ONCE_V2);
        // As Tributary's transaction.interval.ms; its own default is 100.
        config.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, "500");
        config.put("auto.offset.reset", "earliest");

        StreamsBuilder builder = new StreamsBuilder();
        var consumed = Consumed.with(Serdes.String(), Serdes.ByteArray());
        var produced = Produced.with(Serdes.String(), Serdes.ByteArray());
        KStream<String, byte[]> input = builder.stream(args[2], consumed);
        if (args[1].equals("first")) {
            String store = System.getProperty("store", "memory");
            if (store.equals("window")) {
                builder.addStateStore(Stores.windowStoreBuilder(
                        Stores.persistentWindowStore("seen", TTL, TTL, false), Serdes.String(), Serdes.Long()));
                input.process(First::new, "seen").to(args[3], produced);
            } else {
                var supplier = store.equals("memory") ? Stores.inMemoryKeyValueStore("seen") : Stores.persistentKeyValueStore("seen");
                builder.addStateStore(Stores.keyValueStoreBuilder(supplier, Serdes.String(), Serdes.Long()));
                input.process(FirstByKey::new, "seen").to(args[3], produced);
            }
        } else {
            input.groupByKey(Grouped.with(Serdes.String(), Serdes.ByteArray()))
                    .windowedBy(TimeWindows.ofSizeAndGrace(Duration.ofSeconds(10), Duration.ofSeconds(5)))
                    .aggregate(() -> new byte[16], (key, value, sums) -> add(sums, parse(value).get("amount").longValue()),
                            Materialized.<String, byte[], WindowStore<Bytes, byte[]>>as("sums")
                                    .withKeySerde(Serdes.String()).withValueSerde(Serdes.ByteArray()))
                    .suppress(Suppressed.untilWindowCloses(Suppressed.BufferConfig.unbounded()))
                    .toStream()
                    .map((key, sums) -> KeyValue.pair(key.key(),
                            result(key.key(), key.window().start(), key.window().end(), sums)))
                    .to(args[3], produced);
        }
        KafkaStreams streams = new KafkaStreams(builder.build(), config);
        Runtime.getRuntime().addShutdownHook(new Thread(() -> streams.close(Duration.ofSeconds(20))));
        streams.start();
    }
}
