//! Label and field selectors: parsed once from the query, then asked for each object.
//!
//! The grammar is that of `k8s.io/apimachinery`: `a=b`, `a==b`, `a!=b`, `a in (b,c)`, `a notin (b)`, `a`, `!a`.

use serde_json::Value;

use super::refusal::Refusal;
use super::resource::Resource;

/// What a list or a watch is narrowed to.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Selector {
    labels: Vec<LabelTerm>,
    fields: Vec<FieldTerm>,
}

#[derive(Clone, Debug, PartialEq)]
struct LabelTerm {
    key: String,
    test: LabelTest,
}

#[derive(Clone, Debug, PartialEq)]
enum LabelTest {
    Exists,
    Absent,
    In(Vec<String>),
    /// An object without the label passes, as in Kubernetes.
    NotIn(Vec<String>),
}

#[derive(Clone, Debug, PartialEq)]
struct FieldTerm {
    path: String,
    equal: bool,
    value: String,
}

impl Selector {
    /// Parses both query parameters.
    pub(crate) fn parse(labels: &str, fields: &str, resource: &Resource) -> Result<Self, Refusal> {
        let labels = split_outside_brackets(labels).map(parse_label_term).collect::<Result<_, _>>()?;
        let fields = fields
            .split(',')
            .filter(|term| !term.trim().is_empty())
            .map(|term| parse_field_term(term.trim(), resource))
            .collect::<Result<_, _>>()?;
        Ok(Self { labels, fields })
    }

    /// Only the object of this name, as a watch on one object's own path means.
    pub(crate) fn named(mut self, name: &str) -> Self {
        self.fields.push(FieldTerm { path: "metadata.name".to_owned(), equal: true, value: name.to_owned() });
        self
    }

    pub(crate) fn matches(&self, object: &Value) -> bool {
        let labels = &object["metadata"]["labels"];
        self.labels.iter().all(|term| term.matches(labels[&term.key].as_str()))
            && self.fields.iter().all(|term| term.matches(object))
    }
}

impl LabelTerm {
    fn matches(&self, value: Option<&str>) -> bool {
        let is_one_of = |values: &[String]| value.is_some_and(|value| values.iter().any(|it| it == value));
        match &self.test {
            LabelTest::Exists => value.is_some(),
            LabelTest::Absent => value.is_none(),
            LabelTest::In(values) => is_one_of(values),
            LabelTest::NotIn(values) => !is_one_of(values),
        }
    }
}

impl FieldTerm {
    fn matches(&self, object: &Value) -> bool {
        let found = self.path.split('.').fold(object, |value, field| &value[field]);
        let found = match found {
            Value::Null => String::new(),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        (found == self.value) == self.equal
    }
}

/// Splits at commas, except those inside the brackets of a set.
fn split_outside_brackets(text: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0_usize;
    text.split(move |letter| {
        match letter {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        letter == ',' && depth == 0
    })
    .map(str::trim)
    .filter(|term| !term.is_empty())
}

fn parse_label_term(term: &str) -> Result<LabelTerm, Refusal> {
    let unable = || Refusal::bad_request(format!("unable to parse requirement: {term:?}"));
    let (key, test) = if let Some((key, value)) = term.split_once("!=") {
        (key, LabelTest::NotIn(vec![value.trim().to_owned()]))
    } else if let Some((key, value)) = term.split_once("==").or_else(|| term.split_once('=')) {
        (key, LabelTest::In(vec![value.trim().to_owned()]))
    } else if let Some(key) = term.strip_prefix('!') {
        (key, LabelTest::Absent)
    } else if let Some((head, values)) = term.split_once('(') {
        let values = values.strip_suffix(')').ok_or_else(unable)?;
        let values = values.split(',').map(|value| value.trim().to_owned()).collect();
        match head.trim_end().rsplit_once(char::is_whitespace) {
            Some((key, "in")) => (key, LabelTest::In(values)),
            Some((key, "notin")) => (key, LabelTest::NotIn(values)),
            _ => return Err(unable()),
        }
    } else {
        (term, LabelTest::Exists)
    };
    let key = key.trim();
    let spelled = !key.is_empty() && key.chars().all(|it| it.is_ascii_alphanumeric() || "-_./".contains(it));
    if spelled { Ok(LabelTerm { key: key.to_owned(), test }) } else { Err(unable()) }
}

fn parse_field_term(term: &str, resource: &Resource) -> Result<FieldTerm, Refusal> {
    let (path, equal, value) = if let Some((path, value)) = term.split_once("!=") {
        (path, false, value)
    } else if let Some((path, value)) = term.split_once("==").or_else(|| term.split_once('=')) {
        (path, true, value)
    } else {
        return Err(Refusal::bad_request(format!("invalid selector: {term:?}; can't understand {term:?}")));
    };
    if !["metadata.name", "metadata.namespace"].contains(&path) && !resource.fields.contains(&path) {
        return Err(Refusal::bad_request(format!("field label not supported: {path}")));
    }
    Ok(FieldTerm { path: path.to_owned(), equal, value: value.to_owned() })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::kinds;
    use super::*;

    fn selects(labels: &str, fields: &str) -> Result<bool, Refusal> {
        let object = json!({
            "metadata": {"name": "web", "namespace": "shop", "labels": {"app": "web", "tier": "front"}},
            "spec": {"clusterIP": "None"},
        });
        Ok(Selector::parse(labels, fields, &kinds::service::RESOURCE)?.matches(&object))
    }

    #[test]
    fn label_terms_select_as_kubernetes_says() {
        let cases = [
            ("", true),
            ("app=web", true),
            ("app==web,tier=front", true),
            ("app!=web", false),
            ("absent!=web", true),
            ("app in (api, web)", true),
            ("app in (api,web),tier notin (front)", false),
            ("absent notin (web)", true),
            ("app", true),
            ("absent", false),
            ("!absent", true),
            ("!app", false),
            ("!service.kubernetes.io/headless , app = web", true),
        ];
        for (selector, expected) in cases {
            assert_eq!(selects(selector, ""), Ok(expected), "{selector}");
        }
    }

    #[test]
    fn field_terms_select_by_name_namespace_and_the_kinds_own_fields() {
        let cases = [
            ("metadata.name=web", true),
            ("metadata.name!=web", false),
            ("metadata.namespace==shop,spec.clusterIP!=None", false),
            ("spec.clusterIP=None", true),
            ("spec.type!=ClusterIP", true),
        ];
        for (selector, expected) in cases {
            assert_eq!(selects("", selector), Ok(expected), "{selector}");
        }
    }

    #[test]
    fn a_selector_that_cannot_be_read_is_a_bad_request() {
        for (labels, fields) in
            [("app in web", ""), ("a b", ""), ("app in (web", ""), ("", "name"), ("", "spec.x=1")]
        {
            let refusal = selects(labels, fields).unwrap_err();
            assert_eq!((refusal.code, refusal.reason), (400, "BadRequest"), "{labels} {fields}");
        }
    }
}
