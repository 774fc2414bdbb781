package wire

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"net/url"
	"reflect"
	"strconv"
	"strings"
)

// membersMax bounds a list in a form.
const membersMax = 1 << 14

// keyMax bounds the name of a parameter; the longest that AWS has takes a quarter of it.
const keyMax = 512

var timeType = reflect.TypeFor[Time]()

// decodeQuery reads a form as the query protocol writes it: Dimensions.member.1.Name=Host.
func decodeQuery(form url.Values, target any) error {
	prefixes := map[string]bool{} // every beginning of every key, so that a missing part costs nothing
	for key := range form {
		if len(key) > keyMax {
			return fmt.Errorf("a parameter's name has %d characters", len(key))
		}
		for i, c := range key {
			if c == '.' {
				prefixes[key[:i]] = true
			}
		}
		prefixes[key] = true
	}
	q := queryDecoder{form: form, there: prefixes}
	return q.structure("", reflect.ValueOf(target).Elem())
}

type queryDecoder struct {
	form  url.Values
	there map[string]bool
}

func (q queryDecoder) structure(prefix string, into reflect.Value) error {
	for i := range into.NumField() {
		name := into.Type().Field(i).Name
		if prefix != "" {
			name = prefix + "." + name
		}
		if err := q.value(name, item(into.Type().Field(i)), into.Field(i)); err != nil {
			return err
		}
	}
	return nil
}

// item is what the elements of a list are called: "member", or what the field's tag says.
func item(field reflect.StructField) string {
	if name := field.Tag.Get("item"); name != "" {
		return name
	}
	return "member"
}

func (q queryDecoder) value(name, item string, into reflect.Value) error {
	if !q.there[name] {
		return nil
	}
	if into.Kind() == reflect.Pointer {
		into.Set(reflect.New(into.Type().Elem()))
		into = into.Elem()
	}
	text := q.form.Get(name)
	if into.Type() == timeType {
		if err := into.Addr().Interface().(*Time).parse(text); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		return nil
	}
	var err error
	switch into.Kind() {
	case reflect.Struct:
		return q.structure(name, into)
	case reflect.Slice:
		return q.list(name, item, into)
	case reflect.String:
		into.SetString(text)
	case reflect.Int, reflect.Int32, reflect.Int64:
		var number int64
		if number, err = strconv.ParseInt(text, 10, 32); err == nil {
			into.SetInt(number)
		}
	case reflect.Float64:
		var number float64
		if number, err = strconv.ParseFloat(text, 64); err == nil {
			into.SetFloat(number)
		}
	case reflect.Bool:
		var yes bool
		if yes, err = strconv.ParseBool(text); err == nil {
			into.SetBool(yes)
		}
	default:
		panic(fmt.Sprintf("wire: a field of kind %s", into.Kind())) // a struct of ours
	}
	if err != nil {
		return fmt.Errorf("%s: %q cannot be read", name, text)
	}
	return nil
}

func (q queryDecoder) list(name, item string, into reflect.Value) error {
	for i := 1; i <= membersMax; i++ {
		member := fmt.Sprintf("%s.%s.%d", name, item, i)
		if !q.there[member] {
			break
		}
		one := reflect.New(into.Type().Elem()).Elem()
		if err := q.value(member, "member", one); err != nil {
			return err
		}
		into.Set(reflect.Append(into, one))
	}
	return nil
}

// encodeXML writes the answer of an operation.
func encodeXML(operation, namespace, requestID string, output any) []byte {
	var text bytes.Buffer
	fmt.Fprintf(&text, `<%sResponse xmlns="%s">`, operation, namespace)
	if value := reflect.Indirect(reflect.ValueOf(output)); value.NumField() > 0 {
		text.WriteString("<" + operation + "Result>")
		encodeFields(&text, value)
		text.WriteString("</" + operation + "Result>")
	}
	text.WriteString("<ResponseMetadata>")
	element(&text, "RequestId", requestID)
	fmt.Fprintf(&text, "</ResponseMetadata></%sResponse>\n", operation)
	return text.Bytes()
}

func encodeFields(text *bytes.Buffer, value reflect.Value) {
	for i := range value.NumField() {
		field := value.Type().Field(i)
		if omits := strings.Contains(field.Tag.Get("json"), "omitempty"); omits && value.Field(i).IsZero() {
			continue
		}
		encodeValue(text, field.Name, item(field), value.Field(i))
	}
}

func encodeValue(text *bytes.Buffer, name, item string, value reflect.Value) {
	if value.Kind() == reflect.Pointer {
		if value.IsNil() {
			return
		}
		value = value.Elem()
	}
	if value.Type() == timeType {
		element(text, name, value.Interface().(Time).UTC().Format(isoLayout))
		return
	}
	switch value.Kind() {
	case reflect.Struct:
		text.WriteString("<" + name + ">")
		encodeFields(text, value)
		text.WriteString("</" + name + ">")
	case reflect.Slice:
		text.WriteString("<" + name + ">")
		for i := range value.Len() {
			encodeValue(text, item, "member", value.Index(i))
		}
		text.WriteString("</" + name + ">")
	case reflect.Float64:
		element(text, name, strconv.FormatFloat(value.Float(), 'g', -1, 64))
	default:
		element(text, name, fmt.Sprint(value.Interface()))
	}
}

func element(text *bytes.Buffer, name, content string) {
	text.WriteString("<" + name + ">")
	_ = xml.EscapeText(text, []byte(content)) // a buffer takes everything
	text.WriteString("</" + name + ">")
}
