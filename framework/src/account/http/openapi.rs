//! Owns the description of the routes, for people and for programs: OpenAPI 3.1, made from the
//! table that the server is made from. Leaves what a route takes to its family, and how it answers
//! to its dialect. Written with serde_json: utoipa compiles only with its macros.

use serde_json::{Map, Value, json};

use super::{
    answers::{Dialect, Kind, Member},
    route::{Methods, Parameter, Route},
};

const JSON: &str = "application/json";
const FORM: &str = "application/x-www-form-urlencoded";

const ABOUT: &str = "Who plays, and how he proves it. A body is a form or a JSON object, and what \
    is text may be sent as a JSON number. Every other path is answered 404, every other method of \
    a path 405 with the header `Allow`, each with a JSON object that has `error`. An answer 5xx \
    has a `request_id`, under which the log says why.";

/// The description of these routes.
pub(super) fn describe(routes: &[Route]) -> Value {
    let (mut paths, mut schemas) = (Map::new(), Map::new());
    schemas.insert("Error".to_owned(), object(ERROR));
    schemas.insert("Failure".to_owned(), object(FAILURE));
    for route in routes {
        schemas.insert(route.dialect.name.to_owned(), object(route.dialect.answer));
        let mut operations = Map::new();
        if route.methods != Methods::Post {
            operations.insert("get".to_owned(), operation(route, "get"));
        }
        if route.methods != Methods::Get {
            operations.insert("post".to_owned(), operation(route, "post"));
        }
        paths.insert(route.path.to_owned(), operations.into());
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "bastide: account center",
            "description": ABOUT,
            "version": env!("CARGO_PKG_VERSION"),
        },
        "paths": paths,
        "components": { "schemas": schemas },
    })
}

fn operation(route: &Route, method: &str) -> Value {
    let has_body = method == "post";
    let mut operation = json!({
        "operationId": format!("{method}{}", route.path.replace(['/', '.'], "_")),
        "summary": route.about,
        "responses": responses(route.dialect, has_body),
    });
    if !has_body {
        operation["parameters"] = route.takes.iter().map(in_query).collect();
    } else if !route.takes.is_empty() {
        operation["requestBody"] = body(&route.takes);
    }
    operation
}

fn in_query(parameter: &Parameter) -> Value {
    let Parameter { name, needed, about } = parameter;
    let schema = shape(name);
    json!({ "name": name, "in": "query", "required": needed, "description": about, "schema": schema })
}

fn body(takes: &[Parameter]) -> Value {
    let needed = takes.iter().filter(|parameter| parameter.needed);
    let needed: Vec<_> = needed.map(|parameter| parameter.name).collect();
    let fields: Map<_, _> = takes
        .iter()
        .map(|parameter| {
            let mut field = shape(parameter.name);
            field["description"] = parameter.about.into();
            (parameter.name.to_owned(), field)
        })
        .collect();
    let schema = json!({ "type": "object", "properties": fields, "required": needed });
    let content = json!({ JSON: { "schema": schema }, FORM: { "schema": schema } });
    json!({ "content": content, "required": !needed.is_empty() })
}

fn responses(dialect: Dialect, has_body: bool) -> Value {
    let of_http: &[u16] = if has_body { &[400, 408, 413] } else { &[] };
    let statuses = dialect.statuses.iter().chain(of_http);
    let mut responses: Map<_, _> =
        statuses.map(|status| (status.to_string(), response(*status, dialect))).collect();
    let failure = content("a failure of the server, or of what it needs", "Failure");
    responses.insert("5XX".to_owned(), failure);
    responses.into()
}

fn response(status: u16, dialect: Dialect) -> Value {
    let about = match status {
        200 => "the answer",
        400 => "a parameter is missing or malformed, or the body cannot be read",
        401 => "whoever asks is not who he says, or does not know what he should",
        403 => "whoever asks may not",
        408 => "the body came too slowly",
        413 => "the body is too large",
        429 => "too many tries, or too many requests",
        _ => "refused",
    };
    let mut response = content(about, if status == 200 { dialect.name } else { "Error" });
    // Where no status says it, the code 208 of an answer does.
    if status == 429 || status == 200 && !dialect.statuses.contains(&429) {
        response["headers"] = json!({ "Retry-After": {
            "description": "seconds until the next try, after too many",
            "schema": { "type": "integer", "minimum": 1 },
        } });
    }
    response
}

fn content(about: &str, schema: &str) -> Value {
    let schema = json!({ "$ref": format!("#/components/schemas/{schema}") });
    json!({ "description": about, "content": { JSON: { "schema": schema } } })
}

/// Every refusal that has a status of its own.
const ERROR: &[Member] = &[Member { name: "error", kind: Kind::Text, always: true }];

/// Every answer 5xx.
const FAILURE: &[Member] = &[
    Member { name: "error", kind: Kind::Text, always: true },
    Member { name: "request_id", kind: Kind::Text, always: true },
];

fn object(members: &[Member]) -> Value {
    let properties: Map<_, _> = members
        .iter()
        .map(|member| {
            let kind = match member.kind {
                Kind::Integer => json!("integer"),
                Kind::IntegerOrNull => json!(["integer", "null"]),
                Kind::Text => json!("string"),
                Kind::TextOrNull => json!(["string", "null"]),
            };
            (member.name.to_owned(), json!({ "type": kind }))
        })
        .collect();
    let always: Vec<_> = members.iter().filter(|m| m.always).map(|m| m.name).collect();
    json!({ "type": "object", "properties": properties, "required": always })
}

/// What a parameter looks like: a name means the same at every route. Lengths are in characters,
/// as JSON Schema counts, also where the rule counts bytes: then they are what any script may have.
fn shape(name: &str) -> Value {
    let text = |min, max| json!({ "type": "string", "minLength": min, "maxLength": max });
    match name {
        "username" => text(3, 32),
        "password" | "new_password" => text(2, 128),
        "device_id" => text(1, 128),
        "phone" => text(8, 32),
        "code" => json!({ "type": "string", "pattern": "^[0-9]{6}$" }),
        "country_code" => json!({ "type": "string", "pattern": "^\\+[0-9]{1,4}$" }),
        "account_id" => json!({ "type": "integer", "minimum": 1 }),
        "is_guest" => json!({ "type": "boolean" }),
        "auth" | "oemInfo" => json!({ "type": "object" }),
        _ => json!({ "type": "string" }),
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::{
        super::{super::Validators, all_routes, routes},
        *,
    };

    #[test]
    fn the_description_in_docs_is_the_one_that_is_served() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/openapi.json");
        let served = serde_json::to_string_pretty(&describe(&all_routes(&Validators::default())))
            .unwrap()
            + "\n";
        if std::env::var_os("UPDATE").is_some() {
            fs::write(&path, &served).unwrap();
        }
        let kept = fs::read_to_string(&path).unwrap_or_default();
        assert!(
            kept == served,
            "docs/openapi.json is not what the routes are; write it anew with \
             `UPDATE=1 cargo test -p bastide --lib openapi`, and look at the difference"
        );
    }

    #[test]
    fn every_route_is_described_with_what_it_takes_and_how_it_answers() {
        let described = describe(&routes());
        assert_eq!(described["openapi"], "3.1.0");
        for route in routes() {
            let path = &described["paths"][route.path];
            let names = |list: &Value| -> Vec<String> {
                let name = |p: &Value| p["name"].as_str().unwrap().to_owned();
                list.as_array().map(|list| list.iter().map(name).collect()).unwrap_or_default()
            };
            let declared: Vec<_> = route.takes.iter().map(|p| p.name.to_owned()).collect();
            if route.methods != Methods::Post {
                assert_eq!(names(&path["get"]["parameters"]), declared, "{}", route.path);
            }
            if route.methods != Methods::Get {
                let content = &path["post"]["requestBody"]["content"];
                assert_eq!(content[JSON], content[FORM], "{}", route.path);
                for name in &declared {
                    assert!(content[FORM]["schema"]["properties"][name].is_object(), "{name}");
                }
            }
            for operation in path.as_object().unwrap().values() {
                for status in route.dialect.statuses {
                    let content = &operation["responses"][status.to_string()]["content"];
                    assert!(content[JSON]["schema"]["$ref"].is_string(), "{}", route.path);
                }
            }
        }
    }

    #[test]
    fn dialects_of_one_name_are_one() {
        let routes = routes();
        for (a, b) in routes.iter().flat_map(|a| routes.iter().map(move |b| (a, b))) {
            if a.dialect.name == b.dialect.name {
                assert!(object(a.dialect.answer) == object(b.dialect.answer), "{}", a.path);
                assert_eq!(a.dialect.statuses, b.dialect.statuses, "{} {}", a.path, b.path);
            }
        }
    }
}
