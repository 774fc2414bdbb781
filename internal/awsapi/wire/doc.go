// Package wire turns requests and answers of AWS's protocols into Go structs and back: the query protocol with XML answers that boto3 and the
// AWS CLI of Debian speak, JSON 1.0, and the CBOR of the Go SDK. One struct serves all of them: its field names are those of the API.
//
// It knows no operation and no service. It takes nothing that a struct has no field for as an error, as AWS does not either. Its invariant:
// the same request in any protocol gives the same struct.
//
// Start reading at Protocol (wire.go), then the query protocol (query.go).
package wire
