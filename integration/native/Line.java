import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;

/** One message as one line of JSON. Bytes are hex, so that nothing has to be escaped. */
final class Line {
    private final StringBuilder out = new StringBuilder("{");

    Line number(String name, long value) {
        return raw(name, Long.toString(value));
    }

    Line flag(String name, boolean value) {
        return raw(name, Boolean.toString(value));
    }

    Line bytes(String name, byte[] value) {
        return raw(name, hex(value));
    }

    Line text(String name, String value) {
        return bytes(name, value == null ? null : value.getBytes(StandardCharsets.UTF_8));
    }

    /** A payload by its length and `Arrays.hashCode`; null stays null. */
    Line payload(byte[] value) {
        return raw("value", value == null ? "null" : "[" + value.length + "," + Arrays.hashCode(value) + "]");
    }

    Line pairs(String name, Map<String, String> pairs) {
        StringBuilder list = new StringBuilder("[");
        pairs.forEach((key, value) -> add(list, utf8(key), utf8(value)));
        return raw(name, list.append("]").toString());
    }

    static void add(StringBuilder list, byte[] name, byte[] value) {
        list.append(list.length() > 1 ? "," : "").append("[").append(hex(name)).append(",").append(hex(value)).append("]");
    }

    Line raw(String name, String json) {
        out.append(out.length() > 1 ? "," : "").append('"').append(name).append("\":").append(json);
        return this;
    }

    void print() {
        System.out.println(out + "}");
    }

    /** 200 keys of many lengths, some of them no text. */
    static List<byte[]> keys() {
        List<byte[]> keys = new ArrayList<>();
        for (int at = 0; at < 200; at++) {
            String text = at % 3 == 0 ? "order-" + at : at % 3 == 1 ? "名前 " + at * 7919 : "k".repeat(at) + at;
            byte[] key = utf8(text);
            if (at % 10 == 9) {
                key[0] = (byte) 0xff;
            }
            keys.add(key);
        }
        return keys;
    }

    static boolean isText(byte[] key) {
        return key[0] != (byte) 0xff;
    }

    private static String hex(byte[] value) {
        return value == null ? "null" : '"' + HexFormat.of().formatHex(value) + '"';
    }

    static byte[] utf8(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }
}
