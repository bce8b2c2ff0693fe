import java.util.List;
import java.util.Map;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.ClassicGroupDescription;
import org.apache.kafka.clients.admin.MemberDescription;

/** Prints what Kafka's admin client says about a group that is no consumer group: a line for the group, and one for each member. */
public class Describe {
    public static void main(String[] args) throws Exception {
        try (Admin admin = Admin.create(Map.of("bootstrap.servers", args[0]))) {
            ClassicGroupDescription group = admin.describeClassicGroups(List.of(args[1])).all().get().get(args[1]);
            System.out.println("group " + group.protocol() + " " + group.protocolData() + " " + group.state());
            for (MemberDescription member : group.members()) {
                System.out.println("member " + member.clientId() + " " + member.consumerId());
            }
        }
    }
}
