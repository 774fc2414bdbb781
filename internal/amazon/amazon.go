package amazon

import (
	"context"
	"errors"
	"net/http"
	"path/filepath"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"firedrill/internal/drill"
)

// regionDefault is where Route 53 lives, and what is signed for where nobody names a region.
const regionDefault = "us-east-1"

// Config returns the configuration of clients. Paths count from directory. The error is a *drill.Error of kind Invalid: a file or a profile is
// not there. Credentials that are looked for elsewhere are looked for at the first call.
func Config(ctx context.Context, to drill.AWS, directory string) (aws.Config, error) {
	var options []func(*config.LoadOptions) error
	if to.Region != "" {
		options = append(options, config.WithRegion(to.Region))
	}
	if to.Profile != "" {
		options = append(options, config.WithSharedConfigProfile(to.Profile))
	}
	if path := to.CredentialsFile; path != "" {
		if !filepath.IsAbs(path) {
			path = filepath.Join(directory, path)
		}
		options = append(options, config.WithSharedCredentialsFiles([]string{path}), config.WithSharedConfigFiles(nil))
		if to.Profile == "" { // named, so that one that is missing is an error and no reason to look elsewhere
			options = append(options, config.WithSharedConfigProfile("default"))
		}
	}
	if to.Endpoint != "" {
		options = append(options, config.WithBaseEndpoint(to.Endpoint))
	}
	made, err := config.LoadDefaultConfig(ctx, options...)
	if err != nil {
		return aws.Config{}, &drill.Error{Op: "aws", Kind: drill.Invalid, Err: err, Hint: "Check credentials_file and profile of aws: in the service file."}
	}
	if made.Region == "" {
		made.Region = regionDefault
	}
	return made, nil
}

// refusals are the codes with which Amazon says that we may not.
var refusals = map[string]bool{
	"AccessDenied": true, "AccessDeniedException": true, "InvalidClientTokenId": true, "SignatureDoesNotMatch": true, "MissingAuthenticationToken": true,
	"UnrecognizedClientException": true, "InvalidSignatureException": true, "ExpiredToken": true, "ExpiredTokenException": true, "AuthorizationError": true,
	"AuthorizationErrorException": true,
}

// Permanent says whether no further try mends what a call ended with: Amazon has answered, and does not take what we said.
func Permanent(err error) bool {
	var answered *smithyhttp.ResponseError
	if !errors.As(err, &answered) || answered.HTTPStatusCode() < http.StatusBadRequest || answered.HTTPStatusCode() >= http.StatusInternalServerError {
		return false
	}
	var said smithy.APIError
	passing := answered.HTTPStatusCode() == http.StatusTooManyRequests || answered.HTTPStatusCode() == http.StatusRequestTimeout
	if errors.As(err, &said) {
		passing = passing || slices.ContainsFunc([]string{"Throttl", "RequestLimitExceeded", "PriorRequestNotComplete"}, func(part string) bool { return strings.Contains(said.ErrorCode(), part) })
	}
	return !passing
}

// Problem makes a *drill.Error of what a call ended with: Refused when we may not, Invalid when Amazon does not take what we said, Unreachable
// when it did not answer or failed itself.
func Problem(op, where string, err error) error {
	known := &drill.Error{Op: op, Host: where, Kind: drill.Unreachable, Err: err, Hint: "Check the network, the credentials and aws: in the service file."}
	var said smithy.APIError
	if errors.As(err, &said) {
		switch {
		case refusals[said.ErrorCode()]:
			known.Kind, known.Hint = drill.Refused, "Give these credentials leave for it, or name others in aws: of the service file."
		case Permanent(err):
			known.Kind, known.Hint = drill.Invalid, "Check what the service file names there."
		}
	}
	return known
}
