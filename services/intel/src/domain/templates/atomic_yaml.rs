//! Writes templates, wherever they are from, as Atomic Red Team's own YAML.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};

use serde::Serialize;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::atomic::made_id;
use super::atomic_model::{
    EXECUTORS, MANUAL, MIN_DISPLAY_NAME_CHARS, MIN_STEPS_CHARS, PLATFORMS, Part, is_argument_char, is_argument_name,
    needs_elevation, placeholders, split,
};
use crate::domain::knowledge::{ReadError, TemplateRecord};

/// A template that is to be written.
#[derive(Debug, Clone, Copy)]
pub struct Exported<'a> {
    /// Whose it is, such as `atomic_red_team` or `custom`.
    pub source: &'a str,
    /// What it says.
    pub template: &'a TemplateRecord,
}

/// One technique's document, to be named after the technique: `T1059.001.yaml`. `display_name` is the technique's
/// name, for when no template brings the publisher's own.
///
/// A template with an executor of Atomic Red Team in its `details` says the same as when it was read. Any other
/// becomes a manual test whose steps are its procedure.
pub fn write_technique(
    mitre_technique_id: &str,
    display_name: &str,
    templates: &[Exported<'_>],
) -> Result<String, ReadError> {
    let mut templates = templates.to_vec();
    templates.sort_by_cached_key(|exported| {
        let number = exported.template.details.get("test_number").and_then(Value::as_u64).unwrap_or(u64::MAX);
        (number, exported.template.name.clone(), exported.template.source_id.clone())
    });
    let published = templates.iter().find_map(|exported| text(&exported.template.details, "display_name"));
    let name = published.unwrap_or(display_name).trim();
    let display_name = match name.chars().count() < MIN_DISPLAY_NAME_CHARS {
        true => Cow::Owned(format!("{mitre_technique_id} {name}").trim().to_owned()),
        false => Cow::Borrowed(name),
    };
    let mut guids = HashSet::new();
    let document = Document {
        attack_technique: mitre_technique_id,
        display_name,
        atomic_tests: templates.iter().map(|exported| test(exported, &mut guids)).collect(),
    };
    let options = serde_saphyr::ser_options! {
        // A command is written line by line as it is; a folded one is hard to read.
        folded_wrap_chars: usize::MAX,
    };
    serde_saphyr::to_string_with_options(&document, options)
        .map_err(|error| ReadError(format!("the templates of {mitre_technique_id} cannot be written: {error}")))
}

#[derive(Serialize)]
struct Document<'a> {
    attack_technique: &'a str,
    display_name: Cow<'a, str>,
    atomic_tests: Vec<Test<'a>>,
}

#[derive(Serialize)]
struct Test<'a> {
    name: &'a str,
    auto_generated_guid: String,
    description: &'a str,
    supported_platforms: Vec<&'a str>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    input_arguments: BTreeMap<Cow<'a, str>, Argument<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dependency_executor_name: Option<&'a Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    dependencies: Vec<Dependency<'a>>,
    executor: Executor<'a>,
}

#[derive(Serialize)]
struct Argument<'a> {
    description: Cow<'a, str>,
    r#type: &'a str,
    default: &'a Value,
}

#[derive(Serialize)]
struct Dependency<'a> {
    description: &'a str,
    prereq_command: &'a str,
    // The model wants the key, if only with nothing.
    get_prereq_command: &'a Value,
}

#[derive(Serialize)]
struct Executor<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    elevation_required: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    command: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    steps: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cleanup_command: Option<Cow<'a, str>>,
}

fn text<'a>(object: &'a Map<String, Value>, key: &str) -> Option<&'a str> {
    object.get(key).and_then(Value::as_str).filter(|text| !text.trim().is_empty())
}

fn test<'a>(exported: &Exported<'a>, guids: &mut HashSet<String>) -> Test<'a> {
    let template = exported.template;
    let details = &template.details;
    let platforms = supported_platforms(template);
    let mut executor = published_executor(details).unwrap_or_else(|| by_hand(template));
    let commands = [executor.command.as_deref(), executor.cleanup_command.as_deref()];
    if executor.name != MANUAL && needs_elevation(&platforms, commands.into_iter().flatten()) {
        executor.elevation_required = Some(Value::Bool(true));
    }
    let dependencies = dependencies(details);
    let input_arguments = match arguments(details) {
        Some(arguments) => arguments,
        None => made_arguments(&mut executor),
    };
    Test {
        name: template.name.trim(),
        auto_generated_guid: guid(exported, guids),
        description: template.description.as_deref().filter(|text| !text.trim().is_empty()).unwrap_or(&template.name),
        supported_platforms: platforms,
        input_arguments,
        dependency_executor_name: details
            .get("dependency_executor_name")
            .filter(|name| !dependencies.is_empty() && name.as_str().is_some_and(|name| EXECUTORS.contains(&name))),
        dependencies,
        executor,
    }
}

fn guid(exported: &Exported<'_>, taken: &mut HashSet<String>) -> String {
    let id = &exported.template.source_id;
    let made = || made_id(&format!("{}:{id}", exported.source));
    let guid = Uuid::parse_str(id).map_or_else(|_| made(), |id| id.hyphenated().to_string());
    match taken.insert(guid.clone()) {
        true => guid,
        // Two sources with one id.
        false => made(),
    }
}

fn supported_platforms(template: &TemplateRecord) -> Vec<&str> {
    let published: Vec<_> = template
        .details
        .get("supported_platforms")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .filter(|platform| PLATFORMS.contains(platform))
        .collect();
    if !published.is_empty() {
        return published;
    }
    let named = template.platforms.iter().filter_map(|platform| match platform.as_str() {
        "office suite" => Some("office-365"),
        "identity provider" => Some("azure-ad"),
        other => PLATFORMS.into_iter().find(|known| *known == other),
    });
    let named: Vec<_> = named.collect();
    match named.is_empty() {
        // The model wants one; what is said of none may be tried on any computer.
        true => vec!["windows", "macos", "linux"],
        false => named,
    }
}

fn published_executor(details: &Map<String, Value>) -> Option<Executor<'_>> {
    let executor = details.get("executor")?.as_object()?;
    let name = text(executor, "name").filter(|name| EXECUTORS.contains(name))?;
    let enough = match name {
        MANUAL => text(executor, "steps")?.chars().count() >= MIN_STEPS_CHARS,
        _ => text(executor, "command").is_some(),
    };
    let string = |key: &str| executor.get(key).and_then(Value::as_str).map(Cow::Borrowed);
    enough.then(|| Executor {
        name,
        elevation_required: executor.get("elevation_required").filter(|flag| flag.is_boolean()).cloned(),
        command: string("command"),
        steps: string("steps"),
        cleanup_command: string("cleanup_command"),
    })
}

fn by_hand(template: &TemplateRecord) -> Executor<'_> {
    let said = template.attack_procedure.as_deref().filter(|text| !text.trim().is_empty());
    let steps = match said {
        Some(steps) if steps.chars().count() >= MIN_STEPS_CHARS => Cow::Borrowed(steps),
        Some(steps) => Cow::Owned(format!("Carry out: {steps}")),
        None => Cow::Owned(format!("Carry out the test: {}", template.name.trim())),
    };
    Executor {
        name: MANUAL,
        elevation_required: None,
        command: None,
        steps: Some(steps),
        // The model has no place for it in a manual test and ignores it there; readers do not lose it.
        cleanup_command: template.cleanup_procedure.as_deref().map(Cow::Borrowed),
    }
}

fn dependencies(details: &Map<String, Value>) -> Vec<Dependency<'_>> {
    let dependencies = details.get("dependencies").and_then(Value::as_array).into_iter().flatten();
    let complete = dependencies.filter_map(|dependency| {
        let dependency = dependency.as_object()?;
        let command = dependency.get("get_prereq_command").filter(|command| command.is_string());
        Some(Dependency {
            description: dependency.get("description")?.as_str()?,
            prereq_command: dependency.get("prereq_command")?.as_str()?,
            get_prereq_command: command.unwrap_or(&Value::Null),
        })
    });
    complete.collect()
}

/// The arguments as published, if there are any.
fn arguments(details: &Map<String, Value>) -> Option<BTreeMap<Cow<'_, str>, Argument<'_>>> {
    let arguments = details.get("input_arguments")?.as_object().filter(|arguments| !arguments.is_empty())?;
    let complete = arguments.iter().filter_map(|(name, argument)| {
        let argument = argument.as_object()?;
        let published = Argument {
            description: Cow::Borrowed(argument.get("description").and_then(Value::as_str).unwrap_or_default()),
            r#type: text(argument, "type")?,
            default: argument.get("default").unwrap_or(&Value::Null),
        };
        Some((Cow::Borrowed(name.as_str()), published))
    });
    Some(complete.collect())
}

/// The model wants every placeholder declared, and names without dots: Caldera's facts have dots and are not declared.
fn made_arguments<'a>(executor: &mut Executor<'a>) -> BTreeMap<Cow<'a, str>, Argument<'a>> {
    let used = match executor.name {
        MANUAL => vec![executor.steps.as_deref()],
        _ => vec![executor.command.as_deref(), executor.cleanup_command.as_deref()],
    };
    let mut arguments = BTreeMap::new();
    for name in placeholders(used.into_iter().flatten()) {
        let description = format!("What stands for {}", if name.trim().is_empty() { "it" } else { name });
        let argument = Argument { description: Cow::Owned(description), r#type: "string", default: &Value::Null };
        arguments.entry(Cow::Owned(argument_name(name).into_owned())).or_insert(argument);
    }
    if !arguments.is_empty() {
        for text in [&mut executor.command, &mut executor.steps, &mut executor.cleanup_command].into_iter().flatten() {
            *text = Cow::Owned(renamed(text));
        }
    }
    arguments
}

fn argument_name(placeholder: &str) -> Cow<'_, str> {
    if is_argument_name(placeholder) {
        return Cow::Borrowed(placeholder);
    }
    let name: String = placeholder.trim().chars().map(|c| if is_argument_char(c) { c } else { '_' }).collect();
    let name = name.trim_matches('_');
    Cow::Owned(if is_argument_name(name) { name.to_owned() } else { format!("argument_{name}") })
}

fn renamed(command: &str) -> String {
    let parts = split(command);
    let mut text = String::with_capacity(command.len());
    for part in parts {
        match part {
            Part::Text(part) => text += part,
            Part::Placeholder(name) => {
                text += "#{";
                text += &argument_name(name);
                text += "}";
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::domain::templates::parse_upload;

    fn write(display_name: &str, templates: &[(&str, &TemplateRecord)]) -> String {
        let exported: Vec<_> = templates.iter().map(|(source, template)| Exported { source, template }).collect();
        write_technique("T1059.004", display_name, &exported).unwrap()
    }

    /// Reads it as a person's file, which the published model must allow.
    fn back(yaml: &str) -> Vec<TemplateRecord> {
        let (templates, problems) = parse_upload("T1059.004.yaml", yaml.as_bytes());
        assert!(problems.is_empty(), "{problems:#?}\n{yaml}");
        templates
    }

    fn custom(name: &str) -> TemplateRecord {
        TemplateRecord {
            source_id: "my-own-1".to_owned(),
            name: name.to_owned(),
            mitre_technique_id: "T1059.004".to_owned(),
            severity: "high".to_owned(),
            ..TemplateRecord::default()
        }
    }

    #[test]
    fn a_template_of_a_person_becomes_a_manual_test() {
        let mut template = custom("Ask: who am I? # really");
        template.description = Some("Line one\n\n  indented <PID>\ntrailing  \nyes".to_owned());
        template.platforms = vec!["network devices".to_owned(), "office suite".to_owned(), "macos".to_owned()];
        template.attack_procedure = Some("  Open #{host.user.name} and\n\t#{a} then #{}".to_owned());
        template.cleanup_procedure = Some("Close #{host.user.name}".to_owned());
        let yaml = write("Trap", &[("custom", &template)]);
        assert!(yaml.starts_with("attack_technique: T1059.004\ndisplay_name: T1059.004 Trap\n"), "{yaml}");
        let read = back(&yaml);
        assert_eq!(read[0].name, template.name);
        assert_eq!(read[0].description, template.description);
        assert_eq!(read[0].platforms, ["office suite", "macos"]);
        assert_eq!(
            read[0].attack_procedure.as_deref(),
            Some("  Open #{host_user_name} and\n\t#{argument_a} then #{argument_}")
        );
        assert_eq!(read[0].cleanup_procedure.as_deref(), Some("Close #{host_user_name}"));
        assert_eq!(read[0].details["input_arguments"].as_object().unwrap().len(), 3);
        assert_eq!(read[0].source_id, made_id("custom:my-own-1"));
        assert_eq!(yaml, write("Trap", &[("custom", &template)]), "the id is always the same");
    }

    #[test]
    fn a_template_of_nothing_but_a_name_is_a_test_too() {
        let read = back(&write("Unix Shell", &[("custom", &custom("Look"))]));
        assert_eq!(read[0].attack_procedure.as_deref(), Some("Carry out the test: Look"));
        assert_eq!(read[0].description.as_deref(), Some("Look"));
        assert_eq!(read[0].platforms, ["windows", "macos", "linux"]);
    }

    #[test]
    fn a_command_in_the_details_is_a_command() {
        let mut template = custom("Elevated");
        template.platforms = vec!["linux".to_owned()];
        template.details.insert("executor".to_owned(), json!({"name": "sh", "command": "sudo id"}));
        let read = back(&write("Unix Shell", &[("caldera", &template)]));
        assert_eq!(read[0].attack_procedure.as_deref(), Some("sudo id"));
        assert_eq!(read[0].details["executor"]["elevation_required"], json!(true));

        template.details.insert("executor".to_owned(), json!({"name": "python", "command": "id"}));
        template.attack_procedure = Some("run it in Python".to_owned());
        let read = back(&write("Unix Shell", &[("caldera", &template)]));
        assert_eq!(read[0].tool_suggested.as_deref(), Some("manual"));
    }

    #[test]
    fn texts_that_yaml_could_take_for_something_else_stay_texts() {
        for text in [
            "yes",
            "1.0",
            "null",
            "~",
            "- a",
            "a: b",
            "# a",
            "'",
            "\"",
            "\\",
            " ",
            "2024-01-31",
            "0x1F",
            "1:30",
            "on",
            "a\tb",
            "é\u{200B}\u{202E}x",
            "tail \n",
            "\n\nhead",
            "  a\n b\n",
            "\ta\n",
            "a\n\n\n",
            "#",
            "@x",
            "`x`",
            "%x",
            "!x",
            "&x",
            "*x",
            "{{x}}",
            "[x",
            "=",
            "<<",
            "a\u{85}b\u{2028}c",
            "\u{7f}\u{1b}[0m",
            "---",
            "...",
            "? x",
            "a #b",
            "a\r\nb\rc",
        ] {
            let mut template = custom("Odd");
            template.description = Some(format!("{text}."));
            template.details.insert("executor".to_owned(), json!({"name": "sh", "command": text.replace(' ', "x ")}));
            template.details.insert(
                "input_arguments".to_owned(),
                json!({"arg": {"description": text, "type": "string", "default": text}}),
            );
            template.details["executor"]["command"] = json!(format!("{text}#{{arg}}"));
            let yaml = write("Unix Shell", &[("atomic_red_team", &template)]);
            let read = back(&yaml);
            assert_eq!(read[0].details["executor"]["command"], template.details["executor"]["command"], "{yaml}");
            assert_eq!(read[0].details["input_arguments"], template.details["input_arguments"], "{yaml}");
        }
    }

    #[test]
    fn two_sources_with_one_id_are_two_tests() {
        let mut one = custom("One");
        one.source_id = "0b3c2a5e-7c51-4a9e-8a86-0d7c2a3a0001".to_owned();
        let two = TemplateRecord { name: "Two".to_owned(), ..one.clone() };
        let read = back(&write("Unix Shell", &[("caldera", &one), ("custom", &two)]));
        assert_eq!(read[0].source_id, one.source_id);
        assert_ne!(read[1].source_id, one.source_id);
    }
}
