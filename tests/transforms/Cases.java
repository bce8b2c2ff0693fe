// Runs the cases of a transform's table through the real Java class, and prints what came out: one JSON array for each file named.
//
// A case's key and value are read with JsonConverter (schemas.enable=true; a schemaless value stands in an envelope with the schema null),
// headers with SimpleHeaderConverter. The result is written the same way. Time zone UTC.

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.JsonNodeFactory;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.File;
import java.nio.charset.StandardCharsets;
import java.util.HashMap;
import java.util.Map;
import java.util.TimeZone;
import org.apache.kafka.common.record.TimestampType;
import org.apache.kafka.connect.connector.ConnectRecord;
import org.apache.kafka.connect.data.Schema;
import org.apache.kafka.connect.data.SchemaAndValue;
import org.apache.kafka.connect.header.ConnectHeaders;
import org.apache.kafka.connect.header.Header;
import org.apache.kafka.connect.json.JsonConverter;
import org.apache.kafka.connect.sink.SinkRecord;
import org.apache.kafka.connect.source.SourceRecord;
import org.apache.kafka.connect.storage.SimpleHeaderConverter;
import org.apache.kafka.connect.transforms.Transformation;
import org.apache.kafka.connect.transforms.predicates.Predicate;

public class Cases {
    static final ObjectMapper MAPPER = new ObjectMapper()
            .enable(com.fasterxml.jackson.databind.DeserializationFeature.USE_BIG_DECIMAL_FOR_FLOATS)
            .setNodeFactory(JsonNodeFactory.withExactBigDecimals(true));
    static final SimpleHeaderConverter HEADERS = new SimpleHeaderConverter();

    public static void main(String[] files) throws Exception {
        TimeZone.setDefault(TimeZone.getTimeZone("UTC"));
        for (String file : files) {
            ArrayNode outs = MAPPER.createArrayNode();
            for (JsonNode one : MAPPER.readTree(new File(file))) {
                outs.add(run(one));
            }
            System.out.println(MAPPER.writeValueAsString(outs));
        }
    }

    static JsonConverter converter(boolean key) {
        JsonConverter converter = new JsonConverter();
        converter.configure(Map.of("schemas.enable", "true"), key);
        return converter;
    }

    static SchemaAndValue read(JsonNode side, boolean key) throws Exception {
        byte[] bytes = side == null || side.isNull() ? null : MAPPER.writeValueAsBytes(side);
        return converter(key).toConnectData("topic", bytes);
    }

    static JsonNode write(Schema schema, Object value, boolean key) throws Exception {
        byte[] bytes = converter(key).fromConnectData("topic", schema, value);
        return bytes == null ? MAPPER.nullNode() : MAPPER.readTree(bytes);
    }

    static ObjectNode said(String what, Throwable error) {
        return MAPPER.createObjectNode().put(what, error.getMessage());
    }

    @SuppressWarnings({"unchecked", "rawtypes"})
    static ObjectNode run(JsonNode one) throws Exception {
        Map<String, Object> config = new HashMap<>();
        one.get("config").fields().forEachRemaining(entry -> config.put(entry.getKey(), entry.getValue().asText()));
        String name = one.get("class").asText();
        boolean predicate = one.has("predicate");
        if (!name.contains(".")) {
            name = "org.apache.kafka.connect.transforms." + (predicate ? "predicates." : "") + name;
        }
        Object instance = Class.forName(name).getDeclaredConstructor().newInstance();
        try {
            if (predicate) {
                ((Predicate) instance).configure(config);
            } else {
                ((Transformation) instance).configure(config);
            }
        } catch (Exception error) {
            return said("config_error", error);
        }
        ConnectRecord record = record(one.get("in"));
        if (predicate) {
            return MAPPER.createObjectNode().put("answer", ((Predicate) instance).test(record));
        }
        try (Transformation transform = (Transformation) instance) {
            ConnectRecord made = transform.apply(record);
            if (made == null) {
                return MAPPER.createObjectNode().put("dropped", true);
            }
            ObjectNode out = MAPPER.createObjectNode().put("topic", made.topic());
            out.set("key", write(made.keySchema(), made.key(), true));
            out.set("value", write(made.valueSchema(), made.value(), false));
            ArrayNode headers = out.putArray("headers");
            for (Object found : made.headers()) {
                Header header = (Header) found;
                byte[] bytes = HEADERS.fromConnectHeader("topic", header.key(), header.schema(), header.value());
                Schema schema = header.schema();
                // Logical types by their names.
                String type = schema == null ? null : schema.name() != null ? schema.name() : schema.type().getName();
                headers.addArray().add(header.key()).add(type).add(bytes == null ? null : new String(bytes, StandardCharsets.UTF_8));
            }
            return out;
        } catch (Exception error) {
            return said("error", error);
        }
    }

    static ConnectRecord record(JsonNode in) throws Exception {
        SchemaAndValue key = read(in.get("key"), true);
        SchemaAndValue value = read(in.get("value"), false);
        String topic = in.has("topic") ? in.get("topic").asText() : "topic";
        Integer partition = in.hasNonNull("partition") ? in.get("partition").asInt() : null;
        Long timestamp = in.hasNonNull("timestamp") ? in.get("timestamp").asLong() : null;
        ConnectHeaders headers = new ConnectHeaders();
        if (in.has("headers")) {
            for (JsonNode header : in.get("headers")) {
                byte[] bytes = header.get(1).isNull() ? null : header.get(1).asText().getBytes(StandardCharsets.UTF_8);
                headers.add(header.get(0).asText(), HEADERS.toConnectHeader("topic", header.get(0).asText(), bytes));
            }
        }
        if (in.hasNonNull("offset")) {
            return new SinkRecord(topic, partition, key.schema(), key.value(), value.schema(), value.value(),
                    in.get("offset").asLong(), timestamp, TimestampType.CREATE_TIME, headers);
        }
        return new SourceRecord(Map.of(), Map.of(), topic, partition, key.schema(), key.value(), value.schema(), value.value(),
                timestamp, headers);
    }
}
