// What java.util.regex finds: for each case of the table that is named, prints what there is of the expression in the text.

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.File;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.regex.PatternSyntaxException;

public class Patterns {
    static final ObjectMapper MAPPER = new ObjectMapper();

    public static void main(String[] files) throws Exception {
        ArrayNode outs = MAPPER.createArrayNode();
        for (JsonNode one : MAPPER.readTree(new File(files[0]))) {
            try {
                outs.add(find(Pattern.compile(one.get("pattern").asText()), one.get("text").asText()));
            } catch (PatternSyntaxException error) {
                outs.add("error");
            }
        }
        System.out.println(MAPPER.writeValueAsString(outs));
    }

    static ObjectNode find(Pattern pattern, String text) {
        ObjectNode out = MAPPER.createObjectNode().put("matches", pattern.matcher(text).matches());
        ArrayNode all = out.putArray("found");
        for (Matcher matcher = pattern.matcher(text); matcher.find(); ) {
            ArrayNode groups = all.addArray();
            for (int group = 0; group <= matcher.groupCount(); group++) {
                groups.add(matcher.group(group));
            }
        }
        return out;
    }
}
