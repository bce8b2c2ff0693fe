// Runs cases through Kafka Connect's own converters, and prints what came out: one JSON array.
//
// What is read is shown as JsonConverter with schemas.enable=true writes it, nulls as nulls; what is to be written is the text of such an
// envelope. Texts in the place of numbers are numbers that JSON lacks (NaN, infinities).

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
import org.apache.kafka.connect.data.Schema;
import org.apache.kafka.connect.data.SchemaAndValue;
import org.apache.kafka.connect.json.JsonConverter;
import org.apache.kafka.connect.storage.Converter;
import org.apache.kafka.connect.storage.HeaderConverter;

public class Converters {
    static final ObjectMapper MAPPER = new ObjectMapper()
            .enable(com.fasterxml.jackson.databind.DeserializationFeature.USE_BIG_DECIMAL_FOR_FLOATS)
            .setNodeFactory(JsonNodeFactory.withExactBigDecimals(true));

    public static void main(String[] files) throws Exception {
        TimeZone.setDefault(TimeZone.getTimeZone("UTC"));
        ArrayNode outs = MAPPER.createArrayNode();
        for (JsonNode one : MAPPER.readTree(new File(files[0]))) {
            ObjectNode out = MAPPER.createObjectNode();
            try {
                run(one, out);
            } catch (Exception error) {
                out.put("error", error.getMessage());
            }
            outs.add(out);
        }
        System.out.println(MAPPER.writeValueAsString(outs));
    }

    static JsonConverter envelopes(boolean defaults) {
        JsonConverter converter = new JsonConverter();
        converter.configure(Map.of("schemas.enable", "true", "replace.null.with.default", defaults), false);
        return converter;
    }

    static byte[] bytes(JsonNode in) {
        if (in.isNull()) {
            return null;
        }
        String text = in.isObject() ? in.get("hex").asText() : null;
        if (text == null) {
            return in.asText().getBytes(StandardCharsets.UTF_8);
        }
        byte[] bytes = new byte[text.length() / 2];
        for (int i = 0; i < bytes.length; i++) {
            bytes[i] = (byte) Integer.parseInt(text.substring(2 * i, 2 * i + 2), 16);
        }
        return bytes;
    }

    static String hex(byte[] bytes) {
        if (bytes == null) {
            return null;
        }
        StringBuilder hex = new StringBuilder();
        for (byte b : bytes) {
            hex.append(String.format("%02x", b));
        }
        return hex.toString();
    }

    static SchemaAndValue given(JsonNode text) throws Exception {
        byte[] envelope = bytes(text);
        SchemaAndValue read = envelopes(true).toConnectData("t", envelope);
        JsonNode payload = MAPPER.readTree(envelope).get("payload");
        if (read.schema() != null && payload.isTextual() && read.schema().type() == Schema.Type.FLOAT32) {
            return new SchemaAndValue(read.schema(), Float.valueOf(payload.asText()));
        }
        if (read.schema() != null && payload.isTextual() && read.schema().type() == Schema.Type.FLOAT64) {
            return new SchemaAndValue(read.schema(), Double.valueOf(payload.asText()));
        }
        // A number of JSON has no negative zero in Java.
        boolean negative = new String(envelope, StandardCharsets.UTF_8).contains("\"payload\":-0.0}");
        if (negative) {
            Object zero = read.schema().type() == Schema.Type.FLOAT32 ? (Object) (-0.0f) : (Object) (-0.0);
            return new SchemaAndValue(read.schema(), zero);
        }
        return read;
    }

    static void shown(SchemaAndValue value, ObjectNode out) throws Exception {
        byte[] bytes = envelopes(false).fromConnectData("t", value.schema(), value.value());
        out.set("value", bytes == null ? MAPPER.nullNode() : MAPPER.readTree(bytes));
    }

    static void run(JsonNode one, ObjectNode out) throws Exception {
        Map<String, Object> config = new HashMap<>();
        one.get("config").fields().forEachRemaining(entry -> config.put(entry.getKey(), entry.getValue().asText()));
        Object made = Class.forName(one.get("class").asText()).getDeclaredConstructor().newInstance();
        JsonNode in = one.get("in");
        String what = one.get("do").asText();
        if (what.startsWith("header")) {
            HeaderConverter converter = (HeaderConverter) made;
            config.put("converter.type", "header");
            converter.configure(config);
            if (what.equals("header-read")) {
                shown(converter.toConnectHeader("t", "h", bytes(in)), out);
            } else {
                SchemaAndValue value = given(in);
                out.put("hex", hex(converter.fromConnectHeader("t", "h", value.schema(), value.value())));
            }
            return;
        }
        Converter converter = (Converter) made;
        converter.configure(config, false);
        if (what.equals("read")) {
            shown(converter.toConnectData("t", bytes(in)), out);
        } else {
            SchemaAndValue value = given(in);
            out.put("hex", hex(converter.fromConnectData("t", value.schema(), value.value())));
        }
    }
}
