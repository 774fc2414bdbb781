package awsapi

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsrds "github.com/aws/aws-sdk-go-v2/service/rds"
	"github.com/aws/aws-sdk-go-v2/service/rds/types"
	"github.com/aws/smithy-go"

	"firedrill/internal/awsapi/rds"
	"firedrill/internal/failover/database"
	"firedrill/internal/failover/database/databasetest"
)

// held is a driver whose promotions wait until they are let go, and end with the error that comes then.
type held struct {
	database.Driver
	promoting chan error
}

func (h held) Promote(ctx context.Context, move database.Move) error {
	if err := <-h.promoting; err != nil {
		return err
	}
	return h.Driver.Promote(ctx, move)
}

func pairOf(name string, driver database.Driver) rds.Instance {
	return rds.Instance{
		Name: name, Port: 5432, User: "firedrill", Driver: driver,
		Hosts: []rds.Host{{Name: "db-a", Address: netip.MustParseAddr("10.77.2.10")}, {Name: "db-b", Address: netip.MustParseAddr("10.77.2.11")}},
	}
}

func described(t *testing.T, client *awsrds.Client) types.DBInstance {
	t.Helper()
	out, err := client.DescribeDBInstances(t.Context(), &awsrds.DescribeDBInstancesInput{DBInstanceIdentifier: aws.String("books")})
	if err != nil || len(out.DBInstances) != 1 {
		t.Fatalf("%+v, %v", out, err)
	}
	return out.DBInstances[0]
}

func awaitInstance(t *testing.T, client *awsrds.Client, zone, standby string) types.DBInstance {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); <-tick.C {
		i := described(t, client)
		if aws.ToString(i.DBInstanceStatus) == "available" && aws.ToString(i.AvailabilityZone) == zone && aws.ToString(i.SecondaryAvailabilityZone) == standby {
			return i
		}
	}
	t.Fatalf("never available in %s, with a standby in %s: %+v", zone, standby, described(t, client))
	return types.DBInstance{}
}

func messages(t *testing.T, client *awsrds.Client, in awsrds.DescribeEventsInput) string {
	t.Helper()
	var all []string
	pages := awsrds.NewDescribeEventsPaginator(client, &in)
	for pages.HasMorePages() {
		page, err := pages.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range page.Events {
			if aws.ToString(e.SourceIdentifier) != "books" || e.SourceType != types.SourceTypeDbInstance || time.Since(aws.ToTime(e.Date)).Abs() > time.Hour || len(e.EventCategories) != 1 {
				t.Errorf("event: %+v", e)
			}
			all = append(all, aws.ToString(e.Message))
		}
	}
	return strings.Join(all, "|")
}

// The Go client sees a pair as a Multi-AZ instance, moves it, and reads what happened; what cannot fail over is refused as RDS says it.
func TestGoClientFailsOverAnInstance(t *testing.T) {
	pair, subject := databasetest.NewFake("")
	driver := held{pair, make(chan error)}
	options := Options{Directory: t.TempDir(), Instances: []rds.Instance{pairOf("books", driver)}}
	r := start(t, options)
	client := awsrds.NewFromConfig(r.sdk())
	first := described(t, client)
	if !aws.ToBool(first.MultiAZ) || aws.ToString(first.AvailabilityZone) != "us-west-2a" || aws.ToString(first.SecondaryAvailabilityZone) != "us-west-2b" ||
		aws.ToString(first.Engine) != "postgres" || aws.ToString(first.Endpoint.Address) != "10.77.2.10" || aws.ToInt32(first.Endpoint.Port) != 5432 || aws.ToString(first.DBInstanceStatus) != "available" {
		t.Errorf("at first: %+v", first)
	}
	reboot := func(failover bool) error {
		_, err := client.RebootDBInstance(t.Context(), &awsrds.RebootDBInstanceInput{DBInstanceIdentifier: aws.String("books"), ForceFailover: &failover})
		return err
	}
	var state *types.InvalidDBInstanceStateFault
	var said smithy.APIError
	if err := reboot(false); !errors.As(err, &said) || said.ErrorCode() != "InvalidParameterCombination" {
		t.Errorf("a restart in place: %v", err)
	}
	if err := reboot(true); err != nil {
		t.Fatal(err)
	}
	if i := described(t, client); aws.ToString(i.DBInstanceStatus) != "rebooting" || aws.ToString(i.AvailabilityZone) != "us-west-2a" {
		t.Errorf("in the middle: %+v", i)
	}
	if err := reboot(true); !errors.As(err, &state) {
		t.Errorf("in the middle of a failover: %v", err)
	}
	driver.promoting <- nil
	if i := awaitInstance(t, client, "us-west-2b", "us-west-2a"); aws.ToString(i.Endpoint.Address) != "10.77.2.11" {
		t.Errorf("afterwards: %+v", i)
	}
	const moved = "Multi-AZ instance failover started.|DB instance restarted|Multi-AZ instance failover completed"
	about := awsrds.DescribeEventsInput{SourceIdentifier: aws.String("books"), SourceType: types.SourceTypeDbInstance}
	if got := messages(t, client, about); got != moved {
		t.Errorf("events: %s", got)
	}
	only := about
	only.EventCategories = []string{"availability"}
	if got := messages(t, client, only); got != "DB instance restarted" {
		t.Errorf("events of one category: %s", got)
	}
	refusedAsRDSSays(t, client)

	// One that goes wrong on the way is told as such, and what somebody else moves is an event too, over a restart of the endpoint.
	if err := reboot(true); err != nil {
		t.Fatal(err)
	}
	driver.promoting <- errors.New("the standby does not answer")
	r.stop()
	if err := subject.Driver.Rebuild(t.Context(), "db-b", "db-b"); err != nil { // what was fenced is a standby again
		t.Fatal(err)
	}
	if err := pair.Promote(t.Context(), database.Move{From: "db-b", To: "db-a"}); err != nil {
		t.Fatal(err)
	}
	client = awsrds.NewFromConfig(start(t, options).sdk())
	awaitInstance(t, client, "us-west-2a", "us-west-2b")
	if got := messages(t, client, about); got != moved+"|Multi-AZ instance failover started.|Abandoning user requested failover: the standby does not answer|Multi-AZ instance failover completed" {
		t.Errorf("events: %s", got)
	}
	if err := subject.PowerOff(t.Context(), "db-b"); err != nil {
		t.Fatal(err)
	}
	if err := rebooted(t, client); !errors.As(err, &state) || !strings.Contains(err.Error(), "there is no standby") {
		t.Errorf("without a standby: %v", err)
	}
	if err := subject.PowerOff(t.Context(), "db-a"); err != nil {
		t.Fatal(err)
	}
	if i := described(t, client); aws.ToString(i.DBInstanceStatus) != "failed" {
		t.Errorf("with no server left: %+v", i)
	}
}

func rebooted(t *testing.T, client *awsrds.Client) error {
	t.Helper()
	_, err := client.RebootDBInstance(t.Context(), &awsrds.RebootDBInstanceInput{DBInstanceIdentifier: aws.String("books"), ForceFailover: aws.Bool(true)})
	return err
}

func refusedAsRDSSays(t *testing.T, client *awsrds.Client) {
	t.Helper()
	var absent *types.DBInstanceNotFoundFault
	if _, err := client.DescribeDBInstances(t.Context(), &awsrds.DescribeDBInstancesInput{DBInstanceIdentifier: aws.String("none")}); !errors.As(err, &absent) {
		t.Errorf("an instance that is not there: %v", err)
	}
	if _, err := client.RebootDBInstance(t.Context(), &awsrds.RebootDBInstanceInput{DBInstanceIdentifier: aws.String("none")}); !errors.As(err, &absent) {
		t.Errorf("a reboot of one that is not there: %v", err)
	}
	filtered := func(name string, values ...string) ([]types.DBInstance, error) {
		out, err := client.DescribeDBInstances(t.Context(), &awsrds.DescribeDBInstancesInput{Filters: []types.Filter{{Name: &name, Values: values}}})
		if err != nil {
			return nil, err
		}
		return out.DBInstances, nil
	}
	for _, row := range []struct {
		values []string
		want   int
	}{{[]string{"absent", "books"}, 1}, {[]string{"absent"}, 0}, {[]string{"arn:aws:rds:us-west-2:000000000000:db:books"}, 1}} {
		if found, err := filtered("db-instance-id", row.values...); err != nil || len(found) != row.want {
			t.Errorf("filtered by %v: %v, %v", row.values, found, err)
		}
	}
	var said smithy.APIError
	if _, err := filtered("domain", "x"); !errors.As(err, &said) || said.ErrorCode() != "InvalidParameterValue" {
		t.Errorf("a filter that is not served: %v", err)
	}
	now := time.Now()
	for code, in := range map[string]awsrds.DescribeEventsInput{
		"InvalidParameterCombination": {SourceIdentifier: aws.String("books")},
		"InvalidParameterValue":       {SourceType: "stars"},
	} {
		if _, err := client.DescribeEvents(t.Context(), &in); !errors.As(err, &said) || said.ErrorCode() != code {
			t.Errorf("%+v: %v; want %s", in, err, code)
		}
	}
	if _, err := client.DescribeEvents(t.Context(), &awsrds.DescribeEventsInput{StartTime: aws.Time(now), EndTime: aws.Time(now.Add(-time.Hour))}); !errors.As(err, &said) || said.ErrorCode() != "InvalidParameterCombination" {
		t.Errorf("events until before they begin: %v", err)
	}
	if _, err := client.CreateDBSnapshot(t.Context(), &awsrds.CreateDBSnapshotInput{DBInstanceIdentifier: aws.String("books"), DBSnapshotIdentifier: aws.String("s")}); !errors.As(err, &said) || said.ErrorCode() != "InvalidAction" {
		t.Errorf("an operation that is not served: %v", err)
	}
}

// Many instances and events come in pages.
func TestInstancesAndEventsComeInPages(t *testing.T) {
	var instances []rds.Instance
	for n := range 23 {
		pair, _ := databasetest.NewFake("")
		instances = append(instances, pairOf("books-"+string(rune('a'+n)), pair))
	}
	client := awsrds.NewFromConfig(start(t, Options{Instances: instances}).sdk())
	var sizes []int
	pages := awsrds.NewDescribeDBInstancesPaginator(client, &awsrds.DescribeDBInstancesInput{MaxRecords: aws.Int32(20)})
	for pages.HasMorePages() {
		page, err := pages.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		sizes = append(sizes, len(page.DBInstances))
	}
	if !slices.Equal(sizes, []int{20, 3}) {
		t.Errorf("pages of %v", sizes)
	}
	var said smithy.APIError
	if _, err := client.DescribeDBInstances(t.Context(), &awsrds.DescribeDBInstancesInput{MaxRecords: aws.Int32(5)}); !errors.As(err, &said) || said.ErrorCode() != "InvalidParameterValue" {
		t.Errorf("a page of 5: %v", err)
	}
}

// What is typed at RDS, with Debian's command line.
func TestCommandLineFailsOverAnInstance(t *testing.T) {
	pair, _ := databasetest.NewFake("")
	r := start(t, Options{Instances: []rds.Instance{pairOf("books", pair)}})
	var before []struct {
		DBInstanceIdentifier, DBInstanceStatus, AvailabilityZone, SecondaryAvailabilityZone string
		MultiAZ                                                                             bool
		Endpoint                                                                            struct {
			Address string
			Port    int
		}
	}
	r.object(t, `aws rds describe-db-instances --output json --query DBInstances`, &before)
	if len(before) != 1 || !before[0].MultiAZ || before[0].AvailabilityZone != "us-west-2a" || before[0].SecondaryAvailabilityZone != "us-west-2b" || before[0].Endpoint.Port != 5432 {
		t.Errorf("before: %+v", before)
	}
	r.must(t, `aws rds reboot-db-instance --db-instance-identifier books --force-failover --output json`)
	var zone string
	r.object(t, `aws rds wait db-instance-available --db-instance-identifier books && aws rds describe-db-instances --db-instance-identifier books --output json --query "DBInstances[0].AvailabilityZone"`, &zone)
	if zone != "us-west-2b" {
		t.Errorf("afterwards in %s", zone)
	}
	var events []string
	r.object(t, `aws rds describe-events --source-type db-instance --source-identifier books --duration 60 --output json --query "Events[].Message"`, &events)
	if got := strings.Join(events, "|"); got != "Multi-AZ instance failover started.|DB instance restarted|Multi-AZ instance failover completed" {
		t.Errorf("events: %s", got)
	}
	for line, want := range map[string]string{
		`aws rds describe-db-instances --db-instance-identifier none`:                                 "An error occurred (DBInstanceNotFound) when calling the DescribeDBInstances operation",
		`AWS_SECRET_ACCESS_KEY=wrong AWS_ACCESS_KEY_ID=` + testKey + ` aws rds describe-db-instances`: "An error occurred (SignatureDoesNotMatch) when calling the DescribeDBInstances operation",
		`aws rds reboot-db-instance --db-instance-identifier books --no-force-failover`:               "An error occurred (InvalidParameterCombination) when calling the RebootDBInstance operation",
	} {
		if _, err := r.shell(t, line); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s\n got %v\nwant %s", line, err, want)
		}
	}
}
