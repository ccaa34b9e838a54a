package quota

import quotav1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/quota/v1"

// admin answers operators.
type admin struct {
	quotav1.UnimplementedQuotaAdminServiceServer
	s *Service
}
