//! Owns the messages as a JavaScript module: tables that the web kit's `proto.js` reads and writes
//! by, and their types for editors. Leaves finding and parsing `.proto` files to the crate's root.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    path::Path,
};

use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto,
    FileDescriptorSet,
    field_descriptor_proto::{Label, Type},
};

use crate::{BUNDLED, Result, find};

const HEAD: &str = "\
// Generated from .proto files by bastide-js: write it anew instead of changing it.
//
// A field is its number, its name, how often it comes, and its type: a word of protobuf, or the
// name of a message. 64-bit numbers are Numbers while those are exact, beyond that BigInts.
";

/// The messages of bastide's `def/` and `msg/`, and of every `.proto` file below these folders, as
/// the text of a JavaScript module: what the web kit (`examples/clients/web`) has as `messages.js`.
///
/// # Errors
/// When a folder holds no `.proto` file, or one does not parse.
pub fn javascript<P: AsRef<Path>>(folders: &[P]) -> Result<String> {
    let bundled = Path::new(BUNDLED).canonicalize()?;
    let mut files = BTreeSet::new();
    for part in ["def", "msg"] {
        find(&bundled.join(part), &mut files)?;
    }
    let mut roots = vec![bundled];
    for folder in folders {
        let folder = folder.as_ref();
        let root = folder.canonicalize().map_err(|e| format!("{}: {e}", folder.display()))?;
        let known = files.len();
        find(&root, &mut files)?;
        if files.len() == known {
            return Err(format!("{}: no .proto file in this folder", folder.display()).into());
        }
        roots.push(root);
    }
    let mut compiler = protox::Compiler::new(&roots)?;
    compiler.include_imports(true).open_files(&files)?;
    Ok(module(&compiler.file_descriptor_set()))
}

/// Every message and enum of a set, by its full name.
#[derive(Default)]
struct Found<'s> {
    /// Whether its file is of `proto3`, too.
    messages: BTreeMap<String, (&'s DescriptorProto, bool)>,
    enums: BTreeMap<String, &'s EnumDescriptorProto>,
    /// The entries of maps.
    entries: BTreeMap<String, &'s DescriptorProto>,
}

fn module(set: &FileDescriptorSet) -> String {
    let mut found = Found::default();
    for file in &set.file {
        found.file(file);
    }
    let mut code = HEAD.to_owned();
    for (name, (message, proto3)) in &found.messages {
        found.type_of_message(&mut code, name, message, *proto3);
    }
    code += &pairs(&found);
    code += "\nexport const messages = {\n";
    for (name, (message, proto3)) in &found.messages {
        let fields: Vec<_> = message.field.iter().map(|field| found.row(field, *proto3)).collect();
        match fields.as_slice() {
            [] => _ = writeln!(code, "  \"{name}\": [],"),
            rows => {
                _ = writeln!(code, "  \"{name}\": [\n    {},\n  ],", rows.join(",\n    "));
            }
        }
    }
    code += "};\n\nexport const enums = {\n";
    for (name, values) in &found.enums {
        let values: Vec<_> =
            values.value.iter().map(|v| format!("    {}: {},\n", v.name(), v.number())).collect();
        _ = writeln!(code, "  \"{name}\": {{\n{}  }},", values.concat());
    }
    code + "};\n"
}

/// What is asked with which type, and answered with which.
fn pairs(found: &Found<'_>) -> String {
    let mut asked = String::new();
    let mut answered = String::new();
    let mut all = String::new();
    for name in found.messages.keys() {
        let line = |code: &mut String, of: &str| {
            _ = writeln!(code, " * @property {{{}}} \"{name}\"", typedef(of));
        };
        line(&mut all, name);
        let answer = name.strip_suffix(".Req").map(|around| format!("{around}.Res"));
        if let Some(answer) = answer.filter(|answer| found.messages.contains_key(answer)) {
            line(&mut asked, name);
            line(&mut answered, &answer);
        }
    }
    format!(
        "\n/**\n * Each message by its name.\n * @typedef {{object}} Messages\n{all} */\n\
         \n/**\n * Each request by its name.\n * @typedef {{object}} Requests\n{asked} */\n\
         \n/**\n * Each request's answer, by the request's name.\n * @typedef {{object}} Answers\n\
         {answered} */\n"
    )
}

impl<'s> Found<'s> {
    fn file(&mut self, file: &'s FileDescriptorProto) {
        let proto3 = file.syntax() == "proto3";
        for message in &file.message_type {
            self.message(message, file.package(), proto3);
        }
        for values in &file.enum_type {
            self.enums.insert(joined(file.package(), values.name()), values);
        }
    }

    fn message(&mut self, message: &'s DescriptorProto, scope: &str, proto3: bool) {
        let name = joined(scope, message.name());
        for nested in &message.nested_type {
            self.message(nested, &name, proto3);
        }
        for values in &message.enum_type {
            self.enums.insert(joined(&name, values.name()), values);
        }
        // What only holds others, such as `msg.Echo`, is never sent.
        let holds = message.field.is_empty() && !message.nested_type.is_empty();
        if message.options.as_ref().is_some_and(|options| options.map_entry()) {
            self.entries.insert(name, message);
        } else if !holds {
            self.messages.insert(name, (message, proto3));
        }
    }

    /// The two fields of a map's entry, when this field is a map.
    fn entry(&self, field: &FieldDescriptorProto) -> Option<&'s [FieldDescriptorProto]> {
        Some(&self.entries.get(full_name(field))?.field)
    }

    fn row(&self, field: &FieldDescriptorProto, proto3: bool) -> String {
        let (number, name) = (field.number(), field.json_name());
        if let Some([key, value]) = self.entry(field) {
            let (key, value) = (word(key), word(value));
            return format!("[{number}, \"{name}\", \"map\", \"{key}\", \"{value}\"]");
        }
        format!("[{number}, \"{name}\", \"{}\", \"{}\"]", often(field, proto3), word(field))
    }

    fn type_of_message(
        &self,
        code: &mut String,
        name: &str,
        message: &DescriptorProto,
        proto3: bool,
    ) {
        _ = writeln!(code, "\n/**\n * @typedef {{object}} {}", typedef(name));
        for field in &message.field {
            let one = js_type(field);
            let (js, optional) = match (self.entry(field), often(field, proto3)) {
                (Some([key, value]), _) => {
                    (format!("Map<{}, {}>", js_type(key), js_type(value)), false)
                }
                (_, "many" | "packed") => (format!("Array<{one}>"), false),
                (_, often) => (one, often == "optional"),
            };
            let field = field.json_name();
            let field = if optional { format!("[{field}]") } else { field.to_owned() };
            _ = writeln!(code, " * @property {{{js}}} {field}");
        }
        *code += " */\n";
    }
}

fn joined(scope: &str, name: &str) -> String {
    if scope.is_empty() { name.to_owned() } else { format!("{scope}.{name}") }
}

fn full_name(field: &FieldDescriptorProto) -> &str {
    field.type_name().trim_start_matches('.')
}

/// The name of a message's type for editors.
fn typedef(name: &str) -> String {
    name.replace('.', "_")
}

/// How often a field comes, and whether it is seen that it did not.
fn often(field: &FieldDescriptorProto, proto3: bool) -> &'static str {
    let scalar =
        !matches!(field.r#type(), Type::String | Type::Bytes | Type::Message | Type::Group);
    let packed = field.options.as_ref().and_then(|options| options.packed).unwrap_or(proto3);
    match field.label() {
        Label::Repeated if scalar && packed => "packed",
        Label::Repeated => "many",
        Label::Required => "required",
        Label::Optional
            if !proto3
                || field.proto3_optional()
                || field.oneof_index.is_some()
                || field.r#type() == Type::Message =>
        {
            "optional"
        }
        Label::Optional => "one",
    }
}

/// The type of a field in the table.
fn word(field: &FieldDescriptorProto) -> &str {
    match field.r#type() {
        Type::Double => "double",
        Type::Float => "float",
        Type::Int64 => "int64",
        Type::Uint64 => "uint64",
        Type::Int32 => "int32",
        Type::Fixed64 => "fixed64",
        Type::Fixed32 => "fixed32",
        Type::Bool => "bool",
        Type::String => "string",
        Type::Bytes => "bytes",
        Type::Uint32 => "uint32",
        Type::Enum => "enum",
        Type::Sfixed32 => "sfixed32",
        Type::Sfixed64 => "sfixed64",
        Type::Sint32 => "sint32",
        Type::Sint64 => "sint64",
        Type::Message | Type::Group => full_name(field),
    }
}

fn js_type(field: &FieldDescriptorProto) -> String {
    match field.r#type() {
        Type::Int64 | Type::Uint64 | Type::Fixed64 | Type::Sfixed64 | Type::Sint64 => {
            "number|bigint".to_owned()
        }
        Type::Bool => "boolean".to_owned(),
        Type::String => "string".to_owned(),
        Type::Bytes => "Uint8Array".to_owned(),
        Type::Message | Type::Group => typedef(full_name(field)),
        Type::Double
        | Type::Float
        | Type::Int32
        | Type::Fixed32
        | Type::Uint32
        | Type::Enum
        | Type::Sfixed32
        | Type::Sint32 => "number".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn written(proto: &str) -> String {
        let dir = tempfile::tempdir().expect("a folder");
        fs::write(dir.path().join("duel.proto"), proto).expect("written");
        javascript(&[dir.path()]).expect("compiles")
    }

    #[test]
    fn a_field_says_its_number_its_name_how_often_and_what() {
        let code = written(
            "syntax = \"proto3\"; package duel; import \"def/item.proto\";
             message Blow {
               sint32 where_to = 1; optional bool hard = 2; repeated uint32 marks = 3;
               map<string, int64> costs = 4; def.Item weapon = 5; repeated string cries = 6;
             }",
        );
        for row in [
            "[1, \"whereTo\", \"one\", \"sint32\"]",
            "[2, \"hard\", \"optional\", \"bool\"]",
            "[3, \"marks\", \"packed\", \"uint32\"]",
            "[4, \"costs\", \"map\", \"string\", \"int64\"]",
            "[5, \"weapon\", \"optional\", \"def.Item\"]",
            "[6, \"cries\", \"many\", \"string\"]",
            "\"msg.Login.Req\": [\n    [1, \"token\", \"required\", \"string\"]",
            "@property {number} whereTo",
            "@property {boolean} [hard]",
            "@property {Map<string, number|bigint>} costs",
        ] {
            assert!(code.contains(row), "{row} is not in {code}");
        }
        assert!(!code.contains("CostsEntry"), "an entry is no message of its own: {code}");
    }

    #[test]
    fn an_answer_has_its_request_s_name_and_what_only_holds_others_is_left_out() {
        let code = written(
            "syntax = \"proto3\"; package duel;
             message Start { message Req {} message Res { Side side = 1; } }
             enum Side { LEFT = 0; RIGHT = 7; }",
        );
        assert!(code.contains("@property {duel_Start_Res} \"duel.Start.Req\""), "{code}");
        assert!(code.contains("  \"duel.Start.Req\": [],"), "{code}");
        assert!(!code.contains("\"duel.Start\""), "{code}");
        assert!(code.contains("\"duel.Side\": {\n    LEFT: 0,\n    RIGHT: 7,"), "{code}");
    }

    #[test]
    fn an_empty_folder_is_refused() {
        let dir = tempfile::tempdir().expect("a folder");
        let failure = javascript(&[dir.path()]).unwrap_err();
        assert!(failure.to_string().contains("no .proto file"), "{failure}");
    }
}
