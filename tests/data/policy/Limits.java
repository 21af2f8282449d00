import java.util.Map;
import org.apache.kafka.common.errors.PolicyViolationException;
import org.apache.kafka.server.policy.CreateTopicPolicy;

/** What a managed cluster allows of a topic: messages of 8 MiB, records for 90 days. Compiled into limits.jar by compile.sh. */
public class Limits implements CreateTopicPolicy {
    private static final Map<String, Long> MOST = Map.of("max.message.bytes", 8388608L, "retention.ms", 7776000000L);

    @Override
    public void validate(RequestMetadata request) {
        MOST.forEach((name, most) -> {
            String asked = request.configs().get(name);
            if (asked != null && (Long.parseLong(asked) > most || Long.parseLong(asked) < 0))
                throw new PolicyViolationException("Invalid config value: " + name + " may be " + most + " at most");
        });
    }

    @Override
    public void configure(Map<String, ?> configs) {}

    @Override
    public void close() {}
}
