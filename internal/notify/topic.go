package notify

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/aws/aws-sdk-go-v2/service/sns/types"

	"firedrill/internal/amazon"
	"firedrill/internal/drill"
)

const (
	subjectMax = 100 // characters that SNS takes
	snsTime    = "2006-01-02T15:04:05.000-0700"
)

// topic publishes to Amazon SNS what CloudWatch would: programs that were written for its alarms read ours.
type topic struct {
	arn, region string
	client      *sns.Client
}

func newTopic(action drill.SNSAction, directory string) (channel, error) {
	config, err := amazon.Config(context.Background(), action.AWS, directory)
	if err != nil {
		return nil, err
	}
	region := strings.Split(action.Topic, ":")[3] // a topic lives where its name says
	client := sns.NewFromConfig(config, func(o *sns.Options) {
		o.Region = region
		o.Retryer = aws.NopRetryer{} // we try again ourselves
	})
	return &topic{arn: action.Topic, region: region, client: client}, nil
}

// snsMessage is the body, with the names that CloudWatch gives to its fields.
type snsMessage struct {
	AlarmName        string
	AlarmDescription *string
	NewStateValue    string
	NewStateReason   string
	OldStateValue    string
	StateChangeTime  string
	Region           string
	Service          string
	Host             string `json:",omitempty"`
}

func (t *topic) send(ctx context.Context, notice Notice) error {
	body, err := json.Marshal(snsMessage{
		AlarmName: notice.Alarm, NewStateValue: notice.To, NewStateReason: notice.Reason, OldStateValue: notice.From,
		StateChangeTime: notice.At.UTC().Format(snsTime), Region: t.region, Service: notice.Service, Host: notice.Host,
	})
	if err != nil {
		return permanent{err}
	}
	text := func(value string) types.MessageAttributeValue {
		return types.MessageAttributeValue{DataType: aws.String("String"), StringValue: aws.String(value)}
	}
	input := &sns.PublishInput{
		TopicArn: aws.String(t.arn), Message: aws.String(string(body)), Subject: aws.String(subject(notice)),
		MessageAttributes: map[string]types.MessageAttributeValue{"alarm": text(notice.Alarm), "state": text(notice.To)},
	}
	if strings.HasSuffix(t.arn, ".fifo") { // moves of one alarm stay in order, and one that is sent twice arrives once
		sum := sha256.Sum256(body)
		input.MessageDeduplicationId = aws.String(hex.EncodeToString(sum[:]))
		group := sha256.Sum256([]byte(notice.Alarm))
		input.MessageGroupId = aws.String(hex.EncodeToString(group[:8]))
	}
	if _, err = t.client.Publish(ctx, input); err == nil {
		return nil
	}
	if amazon.Permanent(err) {
		return permanent{err}
	}
	return err
}

// subject is the headline in the characters that SNS takes there.
func subject(n Notice) string {
	text := []byte(headline(n))
	for i, c := range text {
		if c < ' ' || c > '~' {
			text[i] = '?'
		}
	}
	return string(text[:min(len(text), subjectMax)])
}
