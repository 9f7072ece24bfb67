package kafka

import (
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// level is the cooperative sticky balancer, for each topic by itself. That one counts partitions of whatever topic: it may leave a member with
// partitions of the topic of retries only, which does nothing while there are jobs. The plans of both go together in one group.
type level struct{ kgo.GroupBalancer }

func newLevel() level { return level{kgo.CooperativeStickyBalancer()} }

// MemberBalancer implements kgo.GroupBalancer.
func (l level) MemberBalancer(members []kmsg.JoinGroupResponseMember) (kgo.GroupMemberBalancer, map[string]struct{}, error) {
	b, err := kgo.NewConsumerBalancer(l, members)
	return b, b.MemberTopics(), err
}

// Balance implements kgo.ConsumerBalancerBalance.
func (l level) Balance(b *kgo.ConsumerBalancer, topics map[string]int32) kgo.IntoSyncAssignment {
	all := b.NewPlan()
	for topic, n := range topics {
		one := l.GroupBalancer.(kgo.ConsumerBalancerBalance).Balance(b, map[string]int32{topic: n})
		for member, parts := range one.(*kgo.BalancePlan).AsMemberIDMap() {
			if len(parts[topic]) > 0 {
				all.AsMemberIDMap()[member][topic] = parts[topic]
			}
		}
	}
	return all
}
