import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import org.apache.flink.api.common.eventtime.WatermarkStrategy;
import org.apache.flink.api.common.functions.AggregateFunction;
import org.apache.flink.api.common.serialization.SerializationSchema;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.connector.base.DeliveryGuarantee;
import org.apache.flink.connector.kafka.sink.KafkaRecordSerializationSchema;
import org.apache.flink.connector.kafka.sink.KafkaSink;
import org.apache.flink.connector.kafka.source.KafkaSource;
import org.apache.flink.connector.kafka.source.enumerator.initializer.OffsetsInitializer;
import org.apache.flink.api.common.serialization.AbstractDeserializationSchema;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.streaming.api.functions.windowing.ProcessWindowFunction;
import org.apache.flink.streaming.api.windowing.assigners.TumblingEventTimeWindows;
import org.apache.flink.streaming.api.windowing.windows.TimeWindow;
import org.apache.flink.util.Collector;

/** The windows as Flink does them, its cluster in this process: servers, job, input, output, group, folder. */
public class FlinkJob {
    public static class Event {
        public String user;
        public long amount;
    }

    public static class Sums {
        public long count;
        public long total;
    }

    static class Parse extends AbstractDeserializationSchema<Event> {
        private transient ObjectMapper json;

        @Override
        public Event deserialize(byte[] value) throws IOException {
            if (json == null) {
                json = new ObjectMapper();
            }
            JsonNode node = json.readTree(value);
            Event event = new Event();
            event.user = node.get("user").textValue();
            event.amount = node.get("amount").longValue();
            return event;
        }
    }

    static class Add implements AggregateFunction<Event, Sums, Sums> {
        @Override
        public Sums createAccumulator() {
            return new Sums();
        }

        @Override
        public Sums add(Event event, Sums sums) {
            sums.count += 1;
            sums.total += event.amount;
            return sums;
        }

        @Override
        public Sums getResult(Sums sums) {
            return sums;
        }

        @Override
        public Sums merge(Sums a, Sums b) {
            a.count += b.count;
            a.total += b.total;
            return a;
        }
    }

    static class Result extends ProcessWindowFunction<Sums, String, String, TimeWindow> {
        @Override
        public void process(String key, Context context, Iterable<Sums> all, Collector<String> out) {
            for (Sums sums : all) {
                out.collect("{\"key\":\"" + key + "\",\"window_start\":" + context.window().getStart() + ",\"window_end\":"
                        + context.window().getEnd() + ",\"n\":" + sums.count + ",\"total\":" + sums.total + "}");
            }
        }
    }

    static class Text implements SerializationSchema<String> {
        @Override
        public byte[] serialize(String text) {
            return text.getBytes(StandardCharsets.UTF_8);
        }
    }

    public static void main(String[] args) throws Exception {
        Configuration config = new Configuration();
        config.setString("state.backend.type", "hashmap");
        config.setString("execution.checkpointing.interval", "1 s");
        config.setString("execution.checkpointing.mode", "EXACTLY_ONCE");
        config.setString("execution.checkpointing.storage", "filesystem");
        config.setString("execution.checkpointing.dir", "file://" + args[5]);
        config.setString("parallelism.default", "1");
        config.setString("rest.port", "0");
        config.setString("rest.bind-port", "0");
        StreamExecutionEnvironment env = StreamExecutionEnvironment.getExecutionEnvironment(config);
        KafkaSource<Event> source = KafkaSource.<Event>builder()
                .setBootstrapServers(args[0]).setTopics(args[2]).setGroupId(args[4])
                .setStartingOffsets(OffsetsInitializer.earliest())
                .setValueOnlyDeserializer(new Parse()).build();
        KafkaSink<String> sink = KafkaSink.<String>builder()
                .setBootstrapServers(args[0])
                .setDeliveryGuarantee(DeliveryGuarantee.EXACTLY_ONCE)
                .setTransactionalIdPrefix(args[4])
                .setProperty("transaction.timeout.ms", "600000")
                .setRecordSerializer(KafkaRecordSerializationSchema.<String>builder()
                        .setTopic(args[3]).setValueSerializationSchema(new Text()).build())
                .build();
        env.fromSource(source, WatermarkStrategy.<Event>forBoundedOutOfOrderness(Duration.ofSeconds(5)), "input",
                        TypeInformation.of(Event.class))
                .keyBy(event -> event.user)
                .window(TumblingEventTimeWindows.of(Duration.ofSeconds(10)))
                .aggregate(new Add(), new Result())
                .sinkTo(sink);
        env.execute();
    }
}
