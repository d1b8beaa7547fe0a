//! Holds a tree of YAML against the JSON Schema: every value typed as the schema says, every deviation a mistake.

use serde_json::{Map, Value};

use super::{
    json_schema::{allows, bound, branches, kind_of, names, tag, types},
    mistake::Mistake,
    quantity::{self, Size, Time},
    scalar::{core_type, type_of},
    secrets::is_secret,
    shape::ADDRESS,
    yaml::{Kind, Node, Span},
};

/// The value as the schema's types say. What is wrong is left out, or replaced by something empty where the type needs it,
/// so that the rest can still be checked for what it means.
pub fn conform(root: &Node, schema: &Value, whole: bool, mistakes: &mut Vec<Mistake>) -> Value {
    let mut walk = Walk { root: schema, whole, mistakes, path: Vec::new(), secret: false };
    let value = walk.value(root, root.span, schema);
    value.unwrap_or_else(|| walk.blank(schema, 0))
}

/// References followed and empty values nested at most; the schema is ours, so this only guards against a slip in it.
const MAX_REFERENCES: usize = 16;

struct Walk<'a> {
    root: &'a Value,
    /// False after an error of syntax: then nothing is said to be missing.
    whole: bool,
    mistakes: &'a mut Vec<Mistake>,
    path: Vec<String>,
    /// Whether a key above this value makes it a secret.
    secret: bool,
}

impl<'a> Walk<'a> {
    /// `None` after a mistake. `key` is where the name of this value stands.
    fn value(&mut self, node: &Node, key: Span, schema: &'a Value) -> Option<Value> {
        let schema = self.resolve(schema);
        if let Some(names) = names(schema) {
            return self.name(node, key, &names);
        }
        if let Some(branches) = branches(schema) {
            return self.branch(node, key, branches);
        }
        match &node.kind {
            Kind::Unknown => None,
            Kind::Map(_) if allows(schema, "object") => Some(self.object(node, key, schema)),
            Kind::List(items) if allows(schema, "array") => Some(self.list(items, schema)),
            Kind::Text { text, plain } => self.scalar(text, *plain, node, key, schema),
            Kind::Map(_) | Kind::List(_) => self.wrong_kind(node, key, schema),
        }
    }

    fn object(&mut self, node: &Node, key: Span, schema: &'a Value) -> Value {
        let properties = schema.get("properties").and_then(Value::as_object);
        let others = schema.get("additionalProperties").filter(|others| *others != &Value::Bool(false));
        let closed = schema.get("additionalProperties") == Some(&Value::Bool(false));
        let mut object = Map::new();
        let Kind::Map(entries) = &node.kind else { return Value::Object(object) };
        for (name, value) in &entries.list {
            let property = properties.and_then(|p| p.get(&name.name)).or(others);
            let Some(property) = property.or((!closed).then_some(&Value::Bool(true))) else {
                let known = properties.into_iter().flat_map(Map::keys).map(String::as_str);
                self.path.push(name.name.clone());
                self.say(Mistake::at(name.span, format!("unknown key `{}`", name.name)).one_of(&name.name, known));
                self.path.pop();
                continue;
            };
            self.path.push(name.name.clone());
            let outside = self.secret;
            self.secret = is_secret(&name.name, outside);
            if let Some(value) = self.value(value, name.span, property) {
                object.insert(name.name.clone(), value);
            }
            self.secret = outside;
            self.path.pop();
        }
        for required in schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
        {
            if object.contains_key(required) {
                continue;
            }
            let property = properties.and_then(|p| p.get(required)).unwrap_or(&Value::Null);
            if self.whole && node.get(required).is_none() {
                let what = kind_of(self.resolve(property));
                self.say(
                    Mistake::at(key, format!("`{required}` is missing")).expected(format!("`{required}`: {what}")),
                );
            }
            object.insert(required.to_owned(), self.blank(property, 0));
        }
        Value::Object(object)
    }

    fn list(&mut self, items: &[Node], schema: &'a Value) -> Value {
        let item = schema.get("items").unwrap_or(&Value::Bool(true));
        let mut list = Vec::with_capacity(items.len());
        for (index, node) in items.iter().enumerate() {
            self.path.push(index.to_string());
            list.extend(self.value(node, node.span, item));
            self.path.pop();
        }
        Value::Array(list)
    }

    fn scalar(&mut self, text: &str, plain: bool, node: &Node, key: Span, schema: &'a Value) -> Option<Value> {
        let written = if plain { core_type(text) } else { Value::String(text.to_owned()) };
        let value = match written {
            Value::Null if allows(schema, "null") => return Some(Value::Null),
            Value::Null => return self.wrong_kind(node, key, schema),
            // What only takes a text takes it as it is written: `topic: 0123`, `group: no`.
            _ if allows(schema, "string") && !allows(schema, type_of(&written)) => Value::String(text.to_owned()),
            written if allows(schema, type_of(&written)) => written,
            Value::Number(n) if n.is_i64() || n.is_u64() => {
                if !allows(schema, "number") {
                    return self.wrong_kind(node, key, schema);
                }
                Value::Number(n)
            }
            _ => return self.wrong_kind(node, key, schema),
        };
        match self.out_of_bounds(&value, schema) {
            None => Some(value),
            Some(expected) => {
                let problem = format!("{} does not do here", self.shown(text));
                self.say(Mistake::at(self.place(node, key), problem).expected(expected));
                None
            }
        }
    }

    /// What was expected instead, if this value is not within what the schema allows.
    fn out_of_bounds(&self, value: &Value, schema: &Value) -> Option<String> {
        let format = schema.get("format").and_then(Value::as_str).unwrap_or_default();
        match value {
            Value::Number(number) => {
                let (number, least, most) = (number.as_f64()?, bound(schema, "minimum"), bound(schema, "maximum"));
                let most = most.or((format == "uint32").then_some(f64::from(u32::MAX)));
                let within = least.is_none_or(|least| number >= least) && most.is_none_or(|most| number <= most);
                (!within).then(|| match (least, most) {
                    (Some(least), Some(most)) => format!("a number from {least} to {most}"),
                    (Some(least), None) => format!("a number of at least {least}"),
                    (_, most) => format!("a number of at most {}", most.unwrap_or(f64::MAX)),
                })
            }
            Value::String(text) => {
                let wrong = match format {
                    quantity::DURATION => Time::parse(text).is_err(),
                    quantity::SIZE => Size::parse(text).is_err(),
                    ADDRESS => text.parse::<std::net::SocketAddr>().is_err(),
                    _ => bound(schema, "minLength").is_some_and(|least| (text.chars().count() as f64) < least),
                };
                wrong.then(|| kind_of(schema))
            }
            _ => None,
        }
    }

    fn name(&mut self, node: &Node, key: Span, names: &[&str]) -> Option<Value> {
        match &node.kind {
            Kind::Unknown => None,
            Kind::Text { text, .. } if names.contains(&text.as_str()) => Some(Value::String(text.clone())),
            Kind::Text { text, .. } => {
                let mistake = Mistake::at(self.place(node, key), format!("{} is not known here", self.shown(text)));
                self.say(mistake.one_of(text, names.iter().copied()));
                None
            }
            _ => {
                self.say(Mistake::at(key, "this must be a name").one_of("", names.iter().copied()));
                None
            }
        }
    }

    fn branch(&mut self, node: &Node, key: Span, branches: Vec<&'a Value>) -> Option<Value> {
        let branches: Vec<_> = branches.into_iter().map(|branch| self.resolve(branch)).collect();
        if let Kind::Text { text, plain: true } = &node.kind
            && core_type(text).is_null()
            && branches.iter().any(|branch| allows(branch, "null"))
        {
            return Some(Value::Null);
        }
        let real: Vec<_> = branches.into_iter().filter(|b| b.get("type") != Some(&Value::from("null"))).collect();
        if let [only] = real.as_slice() {
            return self.value(node, key, only);
        }
        if let (Kind::Map(_), Some(tag)) = (&node.kind, tag(&real)) {
            return self.tagged(node, key, &real, tag);
        }
        // Of a mapping, a word is not what was meant.
        let of_its_kind: Vec<_> = real.iter().copied().filter(|branch| names(branch).is_none()).collect();
        if let (Kind::Map(_), [only]) = (&node.kind, of_its_kind.as_slice()) {
            return self.value(node, key, only);
        }
        // The branch with the fewest mistakes is the one that was meant.
        let mut best: Option<(Vec<Mistake>, Option<Value>)> = None;
        for branch in real {
            let before = self.mistakes.len();
            let value = self.value(node, key, branch);
            let mistakes = self.mistakes.split_off(before);
            if best.as_ref().is_none_or(|(fewest, _)| mistakes.len() < fewest.len()) {
                best = Some((mistakes, value));
            }
        }
        let (mistakes, value) = best?;
        self.mistakes.extend(mistakes);
        value
    }

    /// One of several shapes, told apart by the property `tag`.
    fn tagged(&mut self, node: &Node, key: Span, branches: &[&'a Value], tag: &str) -> Option<Value> {
        let tag_of = |branch: &&'a Value| branch.get("properties")?.get(tag)?.get("const")?.as_str();
        let known = branches.iter().filter_map(tag_of);
        let Some((tag_key, written)) = node.get(tag) else {
            if self.whole {
                let mistake = Mistake::at(key, format!("`{tag}` is missing")).one_of("", known);
                self.say(mistake);
            }
            return None;
        };
        let names: Vec<_> = known.collect();
        self.path.push(tag.to_owned());
        let name = self.name(written, tag_key.span, &names);
        self.path.pop();
        let chosen = branches.iter().find(|branch| tag_of(branch) == name.as_ref().and_then(Value::as_str));
        let branch = name.as_ref().and(chosen)?;
        self.value(node, key, branch)
    }

    fn wrong_kind(&mut self, node: &Node, key: Span, schema: &Value) -> Option<Value> {
        let found = match &node.kind {
            Kind::Map(_) => "a mapping does not do here".to_owned(),
            Kind::List(_) => "a list does not do here".to_owned(),
            Kind::Text { text, plain: true } if core_type(text).is_null() => "this is empty".to_owned(),
            Kind::Text { text, .. } => format!("{} does not do here", self.shown(text)),
            Kind::Unknown => return None,
        };
        let mistake = Mistake::at(self.place(node, key), found).expected(kind_of(schema));
        self.say(mistake);
        None
    }

    /// A scalar is pointed at itself; what holds more, and what is secret, at its key.
    fn place(&self, node: &Node, key: Span) -> Span {
        if matches!(&node.kind, Kind::Text { text, .. } if !text.is_empty()) && !self.secret { node.span } else { key }
    }

    fn shown(&self, text: &str) -> String {
        if self.secret { "this value".into() } else { format!("`{}`", text.chars().take(80).collect::<String>()) }
    }

    fn say(&mut self, mistake: Mistake) {
        self.mistakes.push(mistake.path(&self.path));
    }

    fn resolve(&self, mut schema: &'a Value) -> &'a Value {
        for _ in 0..MAX_REFERENCES {
            let reference = schema.get("$ref").and_then(Value::as_str).and_then(|r| r.strip_prefix('#'));
            match reference.and_then(|pointer| self.root.pointer(pointer)) {
                Some(next) => schema = next,
                None => break,
            }
        }
        schema
    }

    /// The emptiest value of a schema, for what was missing or wrong.
    fn blank(&self, schema: &'a Value, depth: usize) -> Value {
        let schema = self.resolve(schema);
        if let Some(default) = schema.get("default") {
            return default.clone();
        }
        if let Some(name) = names(schema).and_then(|names| names.first().copied()) {
            return name.into();
        }
        match types(schema).next() {
            Some("object") if depth < MAX_REFERENCES => {
                let properties = schema.get("properties");
                let required = schema.get("required").and_then(Value::as_array);
                let names = required.into_iter().flatten().filter_map(Value::as_str);
                let blank =
                    |name: &str| self.blank(properties.and_then(|p| p.get(name)).unwrap_or(&Value::Null), depth + 1);
                Value::Object(names.map(|name| (name.to_owned(), blank(name))).collect())
            }
            Some("object") => Value::Object(Map::new()),
            Some("array") => Value::Array(Vec::new()),
            Some("string") => Value::String(String::new()),
            Some("integer" | "number") => schema.get("minimum").cloned().unwrap_or_else(|| 0.into()),
            Some("boolean") => Value::Bool(false),
            _ => Value::Null,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{super::yaml, *};

    fn conformed(text: &str, schema: Value) -> (Value, Vec<String>) {
        let mut mistakes = Vec::new();
        let value = conform(&yaml::read(text).root.unwrap(), &schema, true, &mut mistakes);
        let said = mistakes.iter().map(|m| format!("{}:{} {}", m.line, m.column, m.problem)).collect();
        (value, said)
    }

    fn object(properties: Value) -> Value {
        json!({ "type": "object", "properties": properties, "additionalProperties": false })
    }

    #[test]
    fn a_text_is_taken_as_it_is_written() {
        let schema =
            object(json!({ "a": { "type": "string" }, "b": { "type": "string" }, "c": { "type": "boolean" } }));
        let (value, said) = conformed("a: 0123\nb: no\nc: no\n", schema);
        assert_eq!(value, json!({ "a": "0123", "b": "no" }));
        assert_eq!(said, ["3:4 `no` does not do here"]);
    }

    #[test]
    fn numbers_keep_to_their_bounds() {
        let number = json!({ "type": "integer", "format": "uint32", "minimum": 0 });
        let schema = object(json!({ "a": number, "b": number, "c": number, "d": { "type": "number" } }));
        let (value, said) = conformed("a: 3\nb: -1\nc: 4294967296\nd: 7\n", schema);
        assert_eq!(value, json!({ "a": 3, "d": 7 }));
        assert_eq!(said, ["2:4 `-1` does not do here", "3:4 `4294967296` does not do here"]);
    }

    #[test]
    fn of_several_shapes_the_one_its_tag_names_is_checked() {
        let branch = |name: &str, property: &str| {
            let mut branch = object(json!({ "type": { "const": name }, property: { "type": "string" } }));
            branch["required"] = json!(["type", property]);
            branch
        };
        let schema = json!({ "type": "array", "items": { "oneOf": [branch("x", "a"), branch("y", "b")] } });
        let (_, said) = conformed("- { type: x, a: 1 }\n- { type: y, a: 1 }\n- { type: z }\n- { a: 1 }\n", schema);
        let expected =
            ["2:14 unknown key `a`", "2:3 `b` is missing", "3:11 `z` is not known here", "4:3 `type` is missing"];
        assert_eq!(said, expected);
    }

    #[test]
    fn a_secret_is_not_repeated() {
        let schema = object(json!({ "password": { "type": "boolean" } }));
        assert_eq!(conformed("password: hunter2\n", schema).1, ["1:1 this value does not do here"]);
    }
}
