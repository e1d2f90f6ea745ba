// RocketMQ to Kafka in Go, by the standard library and franz-go: peer ENDPOINT TOPIC BROKERS KAFKA_TOPIC WORKERS.
//
// It stands in for the official Go SDK, and was written from protocol.md: net/http, encoding/xml, one signature a request.
package main

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base64"
	"encoding/xml"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

const version = "2015-06-06"

type message struct {
	MessageID        string `xml:"MessageId"`
	MessageBodyMD5   string
	MessageBody      string
	ReceiptHandle    string
	PublishTime      int64
	FirstConsumeTime int64
	NextConsumeTime  int64
	ConsumedTimes    int
	MessageTag       string
	Properties       string
}

type messages struct {
	XMLName xml.Name  `xml:"Messages"`
	Message []message `xml:"Message"`
}

type receiptHandles struct {
	XMLName       xml.Name `xml:"ReceiptHandles"`
	ReceiptHandle []string
}

type consumer struct {
	client      *http.Client
	endpoint    string
	poll        string
	acknowledge string
}

// call makes one signed request (protocol.md 1.2).
func (c *consumer) call(method, target string, body []byte) (int, []byte, error) {
	request, err := http.NewRequest(method, c.endpoint+target, bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	date := time.Now().UTC().Format(http.TimeFormat)
	const contentType = "text/xml;charset=utf-8"
	mac := hmac.New(sha1.New, []byte("SECRET"))
	io.WriteString(mac, method+"\n\n"+contentType+"\n"+date+"\nx-mq-version:"+version+"\n"+target)
	request.Header.Set("Authorization", "MQ AKID:"+base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	request.Header.Set("Content-Type", contentType)
	request.Header.Set("Date", date)
	request.Header.Set("X-Mq-Version", version)
	response, err := c.client.Do(request)
	if err != nil {
		return 0, nil, err
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	return response.StatusCode, content, err
}

func (c *consumer) consume() ([]message, error) {
	status, content, err := c.call("GET", c.poll, nil)
	if err != nil || status == http.StatusNotFound { // there was none
		return nil, err
	}
	if status != http.StatusOK {
		return nil, fmt.Errorf("polling: %d %s", status, content)
	}
	var batch messages
	err = xml.Unmarshal(content, &batch)
	return batch.Message, err
}

func (c *consumer) ack(handles []string) error {
	body, err := xml.Marshal(receiptHandles{ReceiptHandle: handles})
	if err != nil {
		return err
	}
	status, content, err := c.call("DELETE", c.acknowledge, body)
	if err == nil && status != http.StatusNoContent {
		err = fmt.Errorf("acknowledging: %d %s", status, content)
	}
	return err
}

func (c *consumer) run(producer *kgo.Client) error {
	for {
		batch, err := c.consume()
		if err != nil {
			return err
		}
		records := make([]*kgo.Record, len(batch))
		handles := make(map[*kgo.Record]string, len(batch))
		for i := range batch {
			records[i] = &kgo.Record{Key: []byte(batch[i].MessageID), Value: []byte(batch[i].MessageBody)}
			handles[records[i]] = batch[i].ReceiptHandle
		}
		confirmed := make([]string, 0, len(batch))
		for _, result := range producer.ProduceSync(context.Background(), records...) {
			if result.Err != nil { // it comes again when its lease ends
				log.Print(result.Err)
				continue
			}
			confirmed = append(confirmed, handles[result.Record])
		}
		if len(confirmed) == 0 {
			continue
		}
		if err := c.ack(confirmed); err != nil {
			return err
		}
	}
}

func main() {
	endpoint, topic, brokers, kafkaTopic := os.Args[1], os.Args[2], os.Args[3], os.Args[4]
	workers, err := strconv.Atoi(os.Args[5])
	if err != nil {
		log.Fatal(err)
	}
	producer, err := kgo.NewClient(kgo.SeedBrokers(strings.Split(brokers, ",")...), kgo.DefaultProduceTopic(kafkaTopic))
	if err != nil {
		log.Fatal(err)
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = workers // else most connections are closed after one request
	path := "/topics/" + topic + "/messages?consumer=GID_bench&ns=MQ_INST_1"
	var running sync.WaitGroup
	for range workers {
		c := &consumer{&http.Client{Transport: transport}, endpoint, path + "&numOfMessages=16&waitseconds=30", path}
		running.Go(func() { log.Fatal(c.run(producer)) })
	}
	running.Wait()
}
